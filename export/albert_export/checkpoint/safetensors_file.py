"""Reads .safetensors: a JSON header of names, types, shapes and byte ranges, then the bytes.

The format needs no package, and the numpy side of the usual one knows no bfloat16. Nothing that the header
says is believed before it is checked: ranges must tile the data, so a file can neither hide bytes nor alias
tensors.
"""

import json
import math
from pathlib import Path

import numpy as np

from albert_runtime.errors import ArtifactError

from .stored_tensor import StoredTensor, StoredTensors, shown

_MAX_HEADER_BYTES = 100_000_000  # the format's own limit
_METADATA = "__metadata__"
# Type -> (numpy's name or bfloat16, the type its bytes are read as)
_DTYPES = {
    "F64": ("float64", "<f8"),
    "F32": ("float32", "<f4"),
    "F16": ("float16", "<f2"),
    "BF16": ("bfloat16", "<u2"),
    "I64": ("int64", "<i8"),
    "I32": ("int32", "<i4"),
    "I16": ("int16", "<i2"),
    "I8": ("int8", "|i1"),
    "U8": ("uint8", "|u1"),
    "BOOL": ("bool", "|b1"),
}


def read_safetensors(path: Path) -> StoredTensors:
    """The tensors of ``path``, unread; ArtifactError if the header or the file's length is wrong."""
    try:
        header, start = _header(path)
        size = path.stat().st_size - start
        tensors: StoredTensors = {}
        ranges = []
        for name, entry in header.items():
            if name == _METADATA:
                continue
            begin, end, tensor = _tensor(path, name, entry, start)
            ranges.append((begin, end))
            tensors[name] = tensor
        position = 0
        for begin, end in sorted(ranges):
            if begin != position:
                raise ArtifactError("its tensors overlap or leave bytes between them")
            position = end
        if position != size:
            raise ArtifactError(f"its tensors take {position} bytes, the file holds {size}")
    except ArtifactError as error:
        raise ArtifactError(f"{path} is truncated or no safetensors file: {error}") from None
    return tensors


def _header(path: Path) -> tuple[dict[str, object], int]:
    with path.open("rb") as file:
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > min(_MAX_HEADER_BYTES, path.stat().st_size - 8):
            raise ArtifactError("its header is longer than the file or than any header")
        text = file.read(length)
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"its header is not JSON ({str(error)[:80]})") from None
    if not isinstance(header, dict):
        raise ArtifactError("its header is no JSON object")
    return header, 8 + length


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name twice")
    return values


def _tensor(path: Path, name: str, entry: object, start: int) -> tuple[int, int, StoredTensor]:
    match entry:
        case {"dtype": str(code), "shape": list(shape), "data_offsets": [begin, end]}:
            pass
        case _:
            raise ArtifactError(f"the entry of {shown(name)} is not a type, a shape and two offsets")
    if code not in _DTYPES:
        raise ArtifactError(
            f"{shown(name)} has the data type {shown(code, 20)}, which no ALBERT checkpoint uses"
        )
    if not all(type(number) is int and number >= 0 for number in (begin, end, *shape)) or len(shape) > 8:
        raise ArtifactError(f"shape or offsets of {shown(name)} are not a few whole numbers")
    title, read_as = _DTYPES[code]
    count = math.prod(shape)
    if end - begin != count * np.dtype(read_as).itemsize:
        raise ArtifactError(f"the offsets of {shown(name)} do not fit its shape")

    def raw() -> np.ndarray:
        values = np.fromfile(path, read_as, count, offset=start + begin)
        if values.size != count:
            raise ArtifactError(f"{path} became shorter while it was read")
        return values.reshape(shape)

    return begin, end, StoredTensor(path, name, tuple(shape), title, raw)
