"""What the export and its worker processes send each other: dataclasses, each one line of JSON.

The parent sends one job; the worker answers with events and then one result or failure. Both sides check what
they read: a missing, unknown or mistyped field is a ProtocolError that names it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.artifact.proof import Proof
from albert_runtime.artifact.tasks import Head
from albert_runtime.artifact.tensor_table import TensorRecord

from ..programs.comparison import TakenProgram
from ..verify import Bounds
from ..weight_source import WeightSource


class ProtocolError(Exception):
    """A line that is not a message; the text names the field."""


# ---- From the parent: what to do


@dataclass(frozen=True)
class TraceJob:
    """Build the model, trace it, write its program and weight file, and run the reference.

    ``calibration`` is read for int8 only; ``depths`` is written for rounded weights only.
    """

    config: AlbertConfig
    head: Head
    weights: WeightSource
    precision: str
    program_file: Path
    weights_file: Path
    calibration: Path
    reference: Path
    depths: Path


@dataclass(frozen=True)
class AnswerJob:
    """Run batches through one backend: those in a file, or without one the verification's.

    ``outputs`` None asks for all of them.
    """

    config: AlbertConfig
    head: Head
    backend: str
    manifest: Path
    outputs: tuple[str, ...] | None
    answers: Path
    batches: Path | None


@dataclass(frozen=True)
class ProgramJob:
    """Run batches through the program that the model was taken out of."""

    program: TakenProgram
    batches: Path
    answers: Path


@dataclass(frozen=True)
class ProofJob:
    """Make the proof of an artifact; the result is a ``Proof``."""

    manifest: Path


Job = TraceJob | AnswerJob | ProgramJob | ProofJob


# ---- From the worker: how it goes


@dataclass(frozen=True)
class StageStarted:
    """A stage of the log begins."""

    stage: str
    text: str


@dataclass(frozen=True)
class StageProgress:
    """How far the current stage is."""

    done: int
    total: int


@dataclass(frozen=True)
class StageDone:
    """The current stage has ended; ``size`` in bytes is that of what it made."""

    detail: str
    size: int | None


Event = StageStarted | StageProgress | StageDone


# ---- From the worker: how it ended


@dataclass(frozen=True)
class TraceResult:
    """What the trace stage found out.

    ``ranges``: largest absolute inputs by matrix and use (int8). ``origin``: the manifest's weights_origin.
    """

    tensors: tuple[TensorRecord, ...]
    ranges: dict[str, tuple[float, ...]]
    origin: dict[str, Any]
    eager_float32: Bounds
    paddle_version: str


@dataclass(frozen=True)
class AnswerResult:
    """``unsupported``: why this machine cannot run the model there; None if it answered."""

    unsupported: str | None


Result = TraceResult | AnswerResult | Proof


@dataclass(frozen=True)
class Finished:
    """The job's result, and the most memory the worker had resident, in bytes."""

    result: TraceResult | AnswerResult | Proof
    peak_bytes: int


@dataclass(frozen=True)
class Failed:
    """The job failed; ``errno`` and ``file`` are set for errors of the operating system."""

    message: str
    errno: int | None = None
    file: str | None = None


_MESSAGES: dict[str, type] = {
    message.__name__: message
    for message in (
        *(TraceJob, AnswerJob, ProgramJob, ProofJob),
        *(StageStarted, StageProgress, StageDone),
        *(Finished, Failed),
    )
}


def to_line(message: Job | Event | Finished | Failed) -> bytes:
    """A message as one line of JSON."""
    encoded = {"kind": type(message).__name__, **_encode_fields(message)}
    return json.dumps(encoded).encode() + b"\n"


def from_line(line: bytes) -> Job | Event | Finished | Failed:
    """The message in a line; ProtocolError if it is not one."""
    try:
        values = json.loads(line)
    except ValueError as error:
        raise ProtocolError(f"not JSON ({error})") from None
    name = values.pop("kind", None) if isinstance(values, dict) else None
    if name not in _MESSAGES:
        raise ProtocolError(f"no known message, but {name!r:.40}")
    message: Job | Event | Finished | Failed = _decode(_MESSAGES[name], values, name)
    return message


def _encode_fields(value: Any) -> dict[str, object]:
    return {field.name: _encode(getattr(value, field.name)) for field in fields(value)}


def _encode(value: object) -> object:
    if is_dataclass(value):
        return _encode_fields(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _encode(item) for key, item in value.items()}
    return [_encode(item) for item in value] if isinstance(value, list | tuple) else value


def _decode(kind: Any, value: Any, where: str) -> Any:
    """``value`` as the type ``kind`` of the field ``where``."""
    if get_origin(kind) is UnionType:
        return _decode_union(get_args(kind), value, where)
    if get_origin(kind) in (tuple, dict) or is_dataclass(kind):
        return _decode_items(kind, value, where)
    if kind is Any or (isinstance(kind, type) and type(value) is kind):
        return value
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is float and type(value) is int:
        return float(value)
    raise ProtocolError(f"{where} is {value!r:.40}, no {kind}")


def _decode_items(kind: Any, value: Any, where: str) -> Any:
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_decode(get_args(kind)[0], item, where) for item in value)
    if not isinstance(value, dict):
        raise ProtocolError(f"{where} is {value!r:.40}, no {kind}")
    if get_origin(kind) is dict:
        return {key: _decode(get_args(kind)[1], item, f"{where}[{key!r}]") for key, item in value.items()}
    hints = get_type_hints(kind)
    if hints.keys() != value.keys():
        raise ProtocolError(f"{where} has the fields {sorted(value)} instead of {sorted(hints)}")
    return kind(**{name: _decode(hint, value[name], f"{where}.{name}") for name, hint in hints.items()})


def _decode_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and NoneType in kinds:
        return None
    candidates = [kind for kind in kinds if kind is not NoneType]
    if isinstance(value, dict):
        # The dataclasses of a union differ in the names of their fields.
        candidates = [
            kind for kind in candidates if is_dataclass(kind) and get_type_hints(kind).keys() == value.keys()
        ]
    if len(candidates) == 1:
        return _decode(candidates[0], value, where)
    for kind in candidates:
        if type(value) is kind:
            return value
    raise ProtocolError(f"{where} is {value!r:.40}, none of {kinds}")
