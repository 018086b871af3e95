"""The manifest of an artifact: what the model is and where each of its tensors lies in the weight file.

A manifest may come from anywhere, so reading one trusts nothing: size, types, ranges, file names and the
tensor table are checked, and whatever is wrong is an ArtifactError of one line that names the file and the
field.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from .config import AlbertConfig
from .errors import ArtifactError
from .tasks import LABELLED, MODEL, TASKS, Head

SCHEMA = 1
SUFFIX = ".manifest.json"
MAX_BYTES = 16 * 2**20
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
ROLES = ("program", "weights", "onnx", "tokenizer")
ITEM_SIZES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}
# A tensor of int8 stands for its integers times the float32 tensor of its name and this.
SCALE = "_scale"
# Read by rows, to look one up or to multiply with its transpose. Any other matrix is [in, out].
_BY_ROW = ("embeddings.word_embeddings.weight", "predictions.decoder.weight")

_BARE = Head()
_PLAIN_NAME = re.compile(r"[^/\\\x00-\x1f\x7f\ud800-\udfff]{1,255}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file of the artifact: its name in the manifest's folder, its size in bytes, its sha256 in hex."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """Where the raw bytes of one tensor lie in the weight file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything STEM.manifest.json says; the fields are those of the file.

    ``labels`` names the columns of the logits of a task whose labels are the user's own, else None. ``head``
    is null in the file of a bare model; its task is always ``task``. ``precision`` is that of the program and
    the graph; each tensor has a dtype of its own. ``calibration`` says on what text the graph's int8 ranges
    were found; other precisions have none.
    """

    name: str
    task: str
    precision: str
    created_by: Mapping[str, Any]
    weights_origin: Mapping[str, Any]
    config: AlbertConfig
    labels: tuple[str, ...] | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    files: Mapping[str, FileRecord]
    tensors: tuple[TensorRecord, ...]
    verification: Mapping[str, Any]
    head: Head = _BARE
    calibration: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Read and check a manifest file; ArtifactError names the file and what is wrong with it."""
        try:
            return cls.from_dict(_load(path))
        except ArtifactError as error:
            raise ArtifactError(f"{path.name}: {_clip(str(error), 400)}") from None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Manifest":
        """Check a decoded manifest; ArtifactError names the field that is wrong."""
        schema = _get(data, "schema", int)
        if schema > SCHEMA:
            raise ArtifactError(
                f"written by a newer albert-runtime (schema {schema}); upgrade albert-runtime"
            )
        if schema < 1:
            _bad("schema", f"is {schema}, not a number from 1 to {SCHEMA}")
        labels = data.get("labels")
        manifest = cls(
            name=_get(data, "name", str),
            task=_choice(data, "task", TASKS),
            precision=_choice(data, "precision", PRECISIONS),
            created_by=_get(data, "created_by", dict),
            weights_origin=_get(data, "weights_origin", dict),
            config=AlbertConfig.from_dict(_get(data, "config", dict)),
            labels=None if labels is None else _strings(data, "labels"),
            inputs=_strings(data, "inputs"),
            outputs=_strings(data, "outputs"),
            files=_files(_get(data, "files", dict)),
            tensors=tuple(_tensor(i, item) for i, item in enumerate(_get(data, "tensors", list))),
            verification=_get(data, "verification", dict),
            head=_head(data),
            calibration=None if data.get("calibration") is None else _get(data, "calibration", dict),
        )
        _check_head(manifest)
        if manifest.inputs != INPUTS:
            _bad("inputs", f"is {list(manifest.inputs)!r}, not {list(INPUTS)!r}")
        expected = manifest.head.outputs(manifest.config)
        if manifest.outputs != expected:
            _bad("outputs", f"is {list(manifest.outputs)!r}, not {list(expected)!r}")
        _check_tensors(manifest)
        return manifest

    def to_dict(self) -> dict[str, Any]:
        """The manifest as JSON holds it."""
        values = {**asdict(self), "head": None if self.head.task == MODEL else self.head.to_dict()}
        first = {name: values.pop(name) for name in ("name", "task", "head")}
        if self.calibration is None:
            del values["calibration"]
        return {"schema": SCHEMA, **first, **values}

    def write(self, path: Path) -> None:
        """Write the manifest as JSON (UTF-8)."""
        path.write_text(json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def tensor_shapes(config: AlbertConfig, head: Head) -> dict[str, tuple[int, ...]]:
    """Every tensor of a model with its head by name, in model order."""
    return {**config.tensor_shapes(), **head.tensor_shapes(config)}


def scaled_by_row(name: str) -> bool:
    """Whether an int8 matrix of that name has a scale for each row, not for each column."""
    return name in _BY_ROW


def with_scales(
    shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, str]
) -> dict[str, tuple[int, ...]]:
    """``shapes`` and behind each tensor that is int8 the shape of its scales."""
    result: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        result[name] = shape
        if dtypes[name] == "int8":
            result[f"{name}{SCALE}"] = shape[:1] if scaled_by_row(name) else shape[1:]
    return result


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ArtifactError(f"cannot be read ({error.strerror})") from None
    if len(raw) > MAX_BYTES:
        raise ArtifactError(f"is larger than {MAX_BYTES >> 20} MiB; it is no manifest of albert-runtime")
    try:
        data = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_small_int,
            parse_float=_finite,
            parse_constant=_finite,
        )
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "nested too deeply"
        raise ArtifactError(f"is not a valid manifest ({_clip(reason)}); export the model again") from None
    if not isinstance(data, dict):
        raise ArtifactError("is not a JSON object; export the model again")
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"key {key!r} occurs twice")
        result[key] = value
    return result


def _small_int(text: str) -> int:
    # No field needs more than 63 bits, and the products of sizes must not grow without bound.
    if len(text) > 19:
        raise ValueError(f"the number {_clip(text, 25)} is too large")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{_clip(text, 25)} is no finite number")
    return value


def _files(data: Mapping[str, Any]) -> dict[str, FileRecord]:
    files = {}
    for role, entry in data.items():
        where = f"files.{_clip(role, 40)}"
        if role not in ROLES:
            _bad(where, f"is unknown; known are {', '.join(ROLES)}")
        if not isinstance(entry, dict):
            _bad(where, f"must be an object, not {_clip(entry)}")
        record = FileRecord(
            _get(entry, "name", str, where),
            _get(entry, "size", int, where),
            _get(entry, "sha256", str, where),
        )
        if not _PLAIN_NAME.fullmatch(record.name) or record.name in (".", ".."):
            _bad(
                f"{where}.name",
                f"is {_clip(record.name)}; it must be a plain file name in the manifest's folder",
            )
        if record.size < 0:
            _bad(f"{where}.size", f"is {record.size}, less than 0")
        if not _SHA256.fullmatch(record.sha256):
            _bad(f"{where}.sha256", "is not 64 hexadecimal digits")
        files[role] = record
    if "weights" not in files:
        _bad("files.weights", "is missing")
    return files


def _head(data: Mapping[str, Any]) -> Head:
    """The head; a bare model has null, and manifests written before there were heads have no such field."""
    value = data.get("head")
    if value is None:
        return _BARE
    if not isinstance(value, dict):
        _bad("head", f"must be an object or null, not {_clip(value)}")
    try:
        return Head.from_dict(value)
    except ArtifactError as error:
        _bad("head", f"is wrong: {error}")


def _check_head(manifest: Manifest) -> None:
    head, config, labels = manifest.head, manifest.config, manifest.labels
    if head.task != manifest.task:
        _bad("head", f"is that of {head.task}, the task is {manifest.task}")
    if head.task != MODEL and config.add_pooling_layer != head.reads_pooled:
        _bad("config", f"must have add_pooling_layer {str(head.reads_pooled).lower()} for {head.task}")
    if head.task not in LABELLED:
        if labels is not None:
            _bad("labels", f"must be null for {head.task}")
    elif labels is None or len(labels) != head.num_labels:
        count = "null" if labels is None else f"{len(labels)} names"
        _bad("labels", f"is {count}, the head has {head.num_labels} columns")
    elif any("\ud800" <= letter <= "\udfff" for letter in "".join(labels)):
        _bad("labels", "holds a lone surrogate, which is no text")


def _tensor(index: int, data: Any) -> TensorRecord:
    where = f"tensors[{index}]"
    if not isinstance(data, dict):
        _bad(where, f"must be an object, not {_clip(data)}")
    shape = _get(data, "shape", list, where)
    if not all(isinstance(size, int) and not isinstance(size, bool) for size in shape):
        _bad(f"{where}.shape", f"must hold whole numbers, not {_clip(shape)}")
    return TensorRecord(
        _get(data, "name", str, where),
        _get(data, "dtype", str, where),
        tuple(shape),
        _get(data, "offset", int, where),
        _get(data, "length", int, where),
    )


def _check_tensors(manifest: Manifest) -> None:
    config, tensors, size = manifest.config, manifest.tensors, manifest.files["weights"].size
    # Ahead of building the table of names, which a hostile config could make huge.
    if config.num_hidden_groups * config.inner_group_num > len(tensors):
        _bad("tensors", f"holds {len(tensors)} tensors, fewer than the config's layer groups need")
    expected = tensor_shapes(config, manifest.head)
    dtypes = {tensor.name: tensor.dtype for tensor in tensors}
    missing = expected.keys() - dtypes.keys()
    if not missing:
        expected = with_scales(expected, dtypes)
        missing = expected.keys() - dtypes.keys()
    if missing:
        _bad("tensors", f"lacks {min(missing)}")
    if len(tensors) > len(expected):
        names = [tensor.name for tensor in tensors]
        extra = next((name for name in names if name not in expected), None)
        _bad("tensors", "names a tensor twice" if extra is None else f"has an unknown tensor {_clip(extra)}")
    end, previous = 0, ""
    for tensor in sorted(tensors, key=lambda tensor: tensor.offset):
        name, shape = tensor.name, expected[tensor.name]
        if tensor.shape != shape:
            _bad(name, f"has shape {list(tensor.shape)}, the config asks for {list(shape)}")
        if tensor.dtype not in ITEM_SIZES:
            _bad(name, f"has dtype {_clip(tensor.dtype)}; known are {', '.join(ITEM_SIZES)}")
        if name.endswith(SCALE) and tensor.dtype != "float32":
            _bad(name, f"has dtype {tensor.dtype}, scales are float32")
        if tensor.dtype == "int8" and len(shape) != 2:
            _bad(name, "has dtype int8, which only a matrix can have")
        needed = math.prod(shape) * ITEM_SIZES[tensor.dtype]
        if tensor.length != needed:
            _bad(name, f"has length {tensor.length}, its shape and dtype need {needed}")
        if tensor.offset < 0 or tensor.offset + tensor.length > size:
            _bad(
                name, f"ends at byte {tensor.offset + tensor.length}, outside the weight file of {size} bytes"
            )
        if tensor.offset < end:
            _bad(name, f"overlaps {previous} in the weight file")
        end, previous = tensor.offset + tensor.length, name


def _get(data: Mapping[str, Any], key: str, kind: type, where: str = "") -> Any:
    field = f"{where}.{key}" if where else key
    if key not in data:
        _bad(field, "is missing")
    value = data[key]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        name = {int: "a whole number", str: "a string", dict: "an object", list: "a list"}[kind]
        _bad(field, f"must be {name}, not {_clip(value)}")
    return value


def _choice(data: Mapping[str, Any], key: str, known: tuple[str, ...]) -> str:
    value: str = _get(data, key, str)
    if value not in known:
        _bad(
            key,
            f"is {_clip(value)}; this albert-runtime knows {', '.join(known)}; upgrade it or export again",
        )
    return value


def _strings(data: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values = _get(data, key, list)
    if not all(isinstance(value, str) for value in values):
        _bad(key, f"must hold strings, not {_clip(values)}")
    return tuple(values)


def _bad(field: str, what: str) -> NoReturn:
    raise ArtifactError(f"{field} {what}")


def _clip(value: object, limit: int = 80) -> str:
    """A value for a message: on one line, not longer than the limit."""
    text = value if isinstance(value, str) and value.isprintable() else repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
