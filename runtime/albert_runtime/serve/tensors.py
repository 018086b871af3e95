"""Tensors of the Open Inference Protocol: named, typed, and in bytes as its binary extension has them.

https://github.com/kserve/open-inference-protocol; a BYTES element is its length in 4 little-endian bytes and
then itself.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import Malformed

BYTES = "BYTES"
# Types that inputs may have, little-endian on the wire.
_DTYPES: "dict[str, np.dtype[Any]]" = {
    "INT64": np.dtype("<i8"),
    "INT32": np.dtype("<i4"),
}
_MAX_DIMENSIONS = 3
_MAX_ELEMENTS = 2**31


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input: an integer array, or for BYTES a flat list of strings with ``shape``."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: "NDArray[Any] | list[str]"


def validate_shape(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape; Malformed if it is none of up to 3 dimensions."""
    dimensions = tuple(shape)
    if not 1 <= len(dimensions) <= _MAX_DIMENSIONS or any(size < 0 for size in dimensions):
        raise Malformed(f"input {name!r} has shape {list(dimensions)[:8]}; one to three sizes are needed")
    # numpy multiplies the sizes beside a zero too.
    if _elements(tuple(max(1, size) for size in dimensions)) > _MAX_ELEMENTS:
        raise Malformed(f"input {name!r} has shape {list(dimensions)}, which is too large")
    return dimensions


def from_bytes(name: str, datatype: str, shape: Sequence[int], data: bytes | memoryview) -> Tensor:
    """A tensor from its bytes; Malformed if they do not make up the shape."""
    dimensions = validate_shape(name, shape)
    if datatype == BYTES:
        texts = list(_split(name, memoryview(data)))
        return Tensor(name, datatype, dimensions, _counted(name, dimensions, texts))
    dtype = _dtype(name, datatype)
    expected = _elements(dimensions) * dtype.itemsize
    if len(data) != expected:
        raise Malformed(f"input {name!r} has {len(data)} bytes, its shape and type make {expected}")
    return Tensor(name, datatype, dimensions, np.frombuffer(data, dtype).reshape(dimensions))


def from_values(name: str, datatype: str, shape: Sequence[int], data: Any) -> Tensor:
    """A tensor from values in row-major order, nested or flat; Malformed if they are not of its type."""
    dimensions = validate_shape(name, shape)
    if datatype == BYTES:
        texts = [_text(name, value) for value in _flat(name, data)]
        return Tensor(name, datatype, dimensions, _counted(name, dimensions, texts))
    dtype = _dtype(name, datatype)
    try:
        wide = np.array(list(_whole(name, datatype, _flat(name, data))), np.int64)
        array = wide.astype(dtype)
        if not np.array_equal(array, wide):  # numpy 1 does not tell
            raise OverflowError
    except OverflowError:
        raise Malformed(f"the data of input {name!r} are not {datatype}: one is too large") from None
    if array.size != _elements(dimensions):
        raise Malformed(f"input {name!r} has {array.size} values, its shape makes {_elements(dimensions)}")
    return Tensor(name, datatype, dimensions, array.reshape(dimensions))


def to_bytes(array: NDArray[np.float32]) -> bytes:
    """An FP32 output."""
    return array.astype("<f4", copy=False).tobytes()


def _dtype(name: str, datatype: str) -> "np.dtype[Any]":
    try:
        return _DTYPES[datatype]
    except KeyError:
        raise Malformed(
            f"input {name!r} has datatype {datatype[:20]!r}; known are {', '.join((*_DTYPES, BYTES))}"
        ) from None


def _elements(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _counted(name: str, shape: tuple[int, ...], texts: list[str]) -> list[str]:
    if len(texts) != _elements(shape):
        raise Malformed(f"input {name!r} has {len(texts)} strings, its shape makes {_elements(shape)}")
    return texts


def _split(name: str, data: memoryview) -> Iterator[str]:
    place = 0
    while place < len(data):
        if place + 4 > len(data):
            raise Malformed(f"input {name!r} ends within the length of a string")
        (length,) = struct.unpack_from("<I", data, place)
        place += 4
        if place + length > len(data):
            raise Malformed(f"input {name!r} has a string of {length} bytes, {len(data) - place} are left")
        yield _text(name, bytes(data[place : place + length]))
        place += length


def _text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise Malformed(f"input {name!r} holds a string that is not UTF-8") from None
    raise Malformed(f"the data of input {name!r} are not strings but {type(value).__name__}")


def _whole(name: str, datatype: str, values: Iterable[Any]) -> Iterator[int]:
    # By their types first: numpy would make all as long as the longest string among them.
    for value in values:
        if type(value) is not int:
            kind = type(value).__name__
            raise Malformed(f"the data of input {name!r} are not {datatype} but hold {kind}")
        yield value


def _flat(name: str, data: Iterable[Any], dimensions: int = _MAX_DIMENSIONS) -> Iterator[Any]:
    for value in data:
        if not isinstance(value, list):
            yield value
        elif dimensions > 1:
            yield from _flat(name, value, dimensions - 1)
        else:
            raise Malformed(f"the data of input {name!r} are nested deeper than {_MAX_DIMENSIONS} lists")
