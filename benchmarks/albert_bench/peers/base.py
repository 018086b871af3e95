"""The libraries that are compared: what each can do, and the form in which all of them are driven.

A peer is a module of this package. ``build(job)`` makes a model ready to answer; where files have to be made
first (quantized or fused graphs), ``prepare(job)`` writes them to ``job.folder`` once, in its own process.
Modules are imported only in the child processes that drive them: importing one imports its library.
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Answer = dict[str, NDArray[np.float32]]
Ids = NDArray[np.int64]

ENGINE = "engine"
PRECISIONS = ("fp32", "bf16", "int8")
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
HIDDEN, POOLED = "last_hidden_state", "pooled_output"


@dataclass(frozen=True, slots=True)
class Contender:
    """One library in one precision; ``variant`` is a setting of it that is compared on its own.

    ``only`` names the work it takes part in, where that is not all of it.
    """

    peer: str
    precision: str
    variant: str = ""
    only: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As tables call it: "paddle plain fp32"."""
        return " ".join(part for part in (self.peer, self.variant, self.precision) if part)


@dataclass(frozen=True, slots=True)
class Job:
    """What a model is built from.

    ``artifact`` is any path of the exported model, ``module`` the name of what drives the library. ``folder``
    holds what was prepared for this contender. With ``streams`` the model's ``run`` is called by that many
    threads at once, each to use one CPU.
    """

    artifact: Path
    contender: Contender
    module: str
    threads: int
    folder: Path
    streams: int = 0


class Model(Protocol):
    """A model ready to answer."""

    def run(self, rows: Sequence[Ids]) -> Answer:
        """From token ids, int64 [length] a row, to float32 last_hidden_state [B, T, H], pooled_output [B, H].

        T is the longest row; what stands behind the end of a shorter one is not looked at.
        """
        ...


@dataclass(frozen=True, slots=True)
class Peer:
    """A library: what drives it, the packages it needs, its contenders, and what it can.

    ``packs``: mixed lengths are no matter to it. ``streams``: several threads may run one model at once.
    ``prepared``: the precisions that need ``prepare``.
    """

    name: str
    module: str
    packages: tuple[str, ...]
    contenders: tuple[Contender, ...]
    packs: bool = False
    streams: bool = False
    prepared: tuple[str, ...] = ()

    @property
    def remedy(self) -> str:
        """How to install it."""
        return f"pip install 'albert-runtime[{'paddle' if self.name == 'paddle' else 'bench'}]'"

    def missing(self) -> str | None:
        """The first package that is not installed."""
        absent = (name for name in self.packages if importlib.util.find_spec(name) is None)
        return next(absent, None)

    def versions(self) -> dict[str, str]:
        """Versions of the packages, those that are installed."""
        found = {}
        for name in self.packages:
            distribution = DISTRIBUTIONS.get(name, name)
            try:
                found[distribution] = metadata.version(distribution)
            except metadata.PackageNotFoundError:
                continue
        return found


def _peer(name: str, packages: tuple[str, ...], precisions: str, *more: Contender, **options: object) -> Peer:
    contenders = (*(Contender(name, precision) for precision in precisions.split()), *more)
    module = f"{__package__}.{name}_peer"
    return Peer(name, module, packages, contenders, **options)  # type: ignore[arg-type]


DISTRIBUTIONS = {"albert_runtime": "albert-runtime", "paddle": "paddlepaddle"}
_ORT_PACKAGES = ("onnxruntime", "onnx", "ml_dtypes")
# Without oneDNN Paddle is several times slower than everybody else: one row says so.
PLAIN = "plain"
_PLAIN_PADDLE = Contender("paddle", "fp32", PLAIN, only=("1x128",))
_ALL = (
    _peer(ENGINE, ("albert_runtime",), "fp32 bf16 int8", packs=True),
    _peer("onnxruntime", _ORT_PACKAGES, "fp32 int8", streams=True, prepared=("fp32", "int8")),
    _peer("openvino", ("openvino", "nncf"), "fp32 bf16 int8", streams=True, prepared=("int8",)),
    _peer("torch", ("torch",), "fp32 bf16", streams=True),
    _peer("paddle", ("paddle",), "fp32", _PLAIN_PADDLE, streams=True),
)
PEERS = {peer.name: peer for peer in _ALL}


def build(job: Job) -> Model:
    """The model of a job; whatever its library raises."""
    return import_library(job).build(job)


def prepare(job: Job) -> None:
    """Write what a contender needs made once; whatever its library raises."""
    import_library(job).prepare(job)


class _Module(Protocol):
    build: Callable[[Job], Model]
    prepare: Callable[[Job], None]


def import_library(job: Job) -> _Module:
    """The module that drives a job's peer, and with it the library itself."""
    return import_module(job.module)


def padded(rows: Sequence[Ids]) -> tuple[Ids, Ids, Ids]:
    """input_ids, attention_mask, token_type_ids, int64 [B, T], T the longest row; 0 behind the ends."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    ids = np.zeros_like(mask)
    ids[mask == 1] = np.concatenate(rows)
    return ids, mask, np.zeros_like(mask)
