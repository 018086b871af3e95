"""Reads a checkpoint: PREFIX.index names the tensors, PREFIX.data-00000-of-00001 (or more) hold their bytes.

The index is a table (``table.py``) of protocol buffers (tensor_bundle.proto): under the empty key a
BundleHeaderProto, under each tensor's name a BundleEntryProto. Its checksum is checked when a tensor is read.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from albert_runtime.errors import ArtifactError

from ...errors import ExportError
from ...protobuf import Malformed, message_fields
from ..stored_tensor import StoredTensor, StoredTensors, shown
from .crc32c import crc32c, unmask
from .table import read_table

INDEX = ".index"

_MAX_INDEX_BYTES = 1 << 26
_MAX_SHARDS = 1000
# tensorflow.DataType -> (numpy's name or bfloat16, the type its bytes are read as)
_DTYPES = {
    1: ("float32", "<f4"),
    2: ("float64", "<f8"),
    3: ("int32", "<i4"),
    4: ("uint8", "|u1"),
    5: ("int16", "<i2"),
    6: ("int8", "|i1"),
    9: ("int64", "<i8"),
    10: ("bool", "|b1"),
    14: ("bfloat16", "<u2"),
    19: ("float16", "<f2"),
}


@dataclass(frozen=True)
class _Entry:
    """Where a tensor lies. ``checksum`` is masked; ``sliced``: its parts lie under names of their own."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    sliced: bool


def bundle_files(index: Path) -> tuple[Path, ...]:
    """The index and its shards, in order; AlbertError if the index is damaged or a shard is not there."""
    shards, _ = _read_index(index)
    files = [_shard(index, number, shards) for number in range(shards)]
    for path in files:
        if not path.is_file():
            raise ExportError(f"{index} needs {path.name}, which is not there; fetch the checkpoint again")
    return (index, *files)


def read_bundle(index: Path) -> StoredTensors:
    """The tensors of a checkpoint by TensorFlow's names, unread; what is no array of numbers by its name.

    Raises ArtifactError for an index that is damaged or hostile, or whose tensors do not fit the shards.
    """
    shards, entries = _read_index(index)
    files = [_shard(index, number, shards) for number in range(shards)]
    sizes = [path.stat().st_size for path in files]
    stored: StoredTensors = {}
    try:
        for name, entry in entries.items():
            if entry.shard >= shards or entry.offset + entry.size > sizes[entry.shard]:
                raise Malformed(f"{shown(name)} lies beyond the end of its data file")
            stored[name] = _tensor(files[entry.shard], name, entry)
    except Malformed as error:
        raise ArtifactError(f"{index} does not fit its data files: {error}") from None
    return stored


def _shard(index: Path, number: int, shards: int) -> Path:
    prefix = index.name.removesuffix(INDEX)
    return index.with_name(f"{prefix}.data-{number:05d}-of-{shards:05d}")


def _tensor(path: Path, name: str, entry: _Entry) -> StoredTensor | object:
    if entry.sliced:
        raise ExportError(
            f"{path} holds {shown(name)} in parts, as a partitioner makes them; load the checkpoint in "
            "TensorFlow and save it without one"
        )
    if entry.dtype not in _DTYPES:
        return entry  # texts, which no model reads
    title, read_as = _DTYPES[entry.dtype]
    count = math.prod(entry.shape)
    if entry.size != count * np.dtype(read_as).itemsize:
        raise Malformed(f"the size of {shown(name)} is not that of its shape")

    def raw() -> np.ndarray:
        with path.open("rb") as file:
            file.seek(entry.offset)
            data = file.read(entry.size)
        if len(data) != entry.size:
            raise ArtifactError(f"{path} became shorter while it was read")
        if crc32c(data) != unmask(entry.checksum):
            raise ArtifactError(f"{path}: the checksum of {name} is wrong; fetch the checkpoint again")
        return np.frombuffer(data, read_as).reshape(entry.shape)

    return StoredTensor(path, shown(name), entry.shape, title, raw)


def _read_index(path: Path) -> tuple[int, dict[str, _Entry]]:
    """The number of shards and every entry."""
    if path.stat().st_size > _MAX_INDEX_BYTES:
        raise ArtifactError(f"{path} is far larger than an index can be")
    try:
        table = read_table(path.read_bytes())
        if b"" not in table:
            raise Malformed("it has no header")
        shards = _header(table.pop(b""))
        return shards, {_text(key): _entry(value) for key, value in table.items() if not _is_part(key)}
    except Malformed as error:
        raise ArtifactError(f"{path} is truncated or no index of a TensorFlow checkpoint: {error}") from None


def _is_part(key: bytes) -> bool:
    """Whether the key is that of a slice of a variable, which TensorFlow starts with a zero byte."""
    return key.startswith(b"\0")


def _text(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise Malformed("a name is not UTF-8 text") from None


def _header(data: bytes) -> int:
    """The number of shards that a BundleHeaderProto gives."""
    fields = dict(message_fields(data))
    shards = _number(fields, 1)
    if _number(fields, 2):
        raise Malformed("its tensors are big-endian; save it again on a machine of today")
    if not 1 <= shards <= _MAX_SHARDS:
        raise Malformed(f"it names {shards} data files")
    return shards


def _entry(data: bytes) -> _Entry:
    """A BundleEntryProto. Fields that are zero are not written."""
    fields: dict[int, int | bytes] = {}
    sliced = False
    for field, value in message_fields(data):
        sliced = sliced or field == 7
        fields[field] = value
    shape, checksum = fields.get(2, b""), fields.get(6, bytes(4))
    if not isinstance(shape, bytes) or not isinstance(checksum, bytes) or len(checksum) != 4:
        raise Malformed("an entry has fields of another type")
    return _Entry(
        _number(fields, 1),
        _shape(shape),
        _number(fields, 3),
        _number(fields, 4),
        _number(fields, 5),
        int.from_bytes(checksum, "little"),
        sliced,
    )


def _shape(data: bytes) -> tuple[int, ...]:
    sizes = []
    for field, value in message_fields(data):
        if field == 2 and isinstance(value, bytes):
            sizes.append(_number(dict(message_fields(value)), 1))
    if len(sizes) > 8:
        raise Malformed("a tensor has too many dimensions")
    return tuple(sizes)


def _number(fields: dict[int, int | bytes], field: int) -> int:
    """A field that is a number, 0 if it is left out; negative ones are written as more than 63 bits."""
    value = fields.get(field, 0)
    if not isinstance(value, int) or value >= 1 << 63:
        raise Malformed("an entry has a field that is no number from 0 on")
    return value
