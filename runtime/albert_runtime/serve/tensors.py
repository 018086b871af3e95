"""Tensors of the Open Inference Protocol, read from JSON values or raw bytes, and written as raw bytes.

See https://github.com/kserve/open-inference-protocol. In raw form numbers are little-endian, and each
element of a BYTES tensor is preceded by its length in 4 bytes.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import MalformedRequest

BYTES = "BYTES"
_INPUT_DTYPES: "dict[str, np.dtype[Any]]" = {
    "INT64": np.dtype("<i8"),
    "INT32": np.dtype("<i4"),
}
_MAX_DIMENSIONS = 3
_MAX_ELEMENTS = 2**31


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input tensor of a request.

    Attributes:
        name: The input's name.
        datatype: INT64, INT32 or BYTES.
        shape: The sizes of its dimensions, 1 to 3 of them.
        values: An integer array of that shape; for BYTES the strings in row-major order.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: "NDArray[Any] | list[str]"


def validate_shape(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape as a tuple; MalformedRequest unless it has 1 to 3 dimensions and a reasonable size."""
    dimensions = tuple(shape)
    if not 1 <= len(dimensions) <= _MAX_DIMENSIONS or any(size < 0 for size in dimensions):
        raise MalformedRequest(
            f"input {name!r} has shape {list(dimensions)[:8]}; give 1 to 3 sizes, none of them negative"
        )
    # A zero does not make the others harmless: numpy multiplies them too.
    if _element_count(tuple(max(1, size) for size in dimensions)) > _MAX_ELEMENTS:
        raise MalformedRequest(f"input {name!r} has shape {list(dimensions)}, which is too large")
    return dimensions


def from_bytes(name: str, datatype: str, shape: Sequence[int], data: bytes | memoryview) -> Tensor:
    """Read a tensor from its raw bytes.

    Args:
        name: The input's name.
        datatype: INT64, INT32 or BYTES.
        shape: The sizes of its dimensions.
        data: The bytes. An integer array borrows them; they must not change.

    Raises:
        MalformedRequest: The datatype or shape is not accepted, or the bytes do not make up the shape.
    """
    dimensions = validate_shape(name, shape)
    if datatype == BYTES:
        texts = list(_split_strings(name, memoryview(data)))
        return Tensor(name, datatype, dimensions, _check_count(name, dimensions, texts))
    dtype = _dtype(name, datatype)
    expected = _element_count(dimensions) * dtype.itemsize
    if len(data) != expected:
        raise MalformedRequest(
            f"input {name!r} has {len(data)} bytes; its shape and datatype need {expected}"
        )
    return Tensor(name, datatype, dimensions, np.frombuffer(data, dtype).reshape(dimensions))


def from_values(name: str, datatype: str, shape: Sequence[int], data: Any) -> Tensor:
    """Read a tensor from Python values.

    Args:
        name: The input's name.
        datatype: INT64, INT32 or BYTES.
        shape: The sizes of its dimensions.
        data: Integers or strings in row-major order, nested in lists or flat.

    Raises:
        MalformedRequest: The datatype or shape is not accepted, or the values do not fit them.
    """
    dimensions = validate_shape(name, shape)
    if datatype == BYTES:
        texts = [_text(name, value) for value in _flatten(name, data)]
        return Tensor(name, datatype, dimensions, _check_count(name, dimensions, texts))
    dtype = _dtype(name, datatype)
    try:
        int64 = np.array(list(_integers(name, datatype, _flatten(name, data))), np.int64)
        array = int64.astype(dtype)
        if not np.array_equal(array, int64):  # numpy 1 overflows silently
            raise OverflowError
    except OverflowError:
        raise MalformedRequest(f"input {name!r} has a value that does not fit into {datatype}") from None
    if array.size != _element_count(dimensions):
        raise MalformedRequest(
            f"input {name!r} has {array.size} values; its shape needs {_element_count(dimensions)}"
        )
    return Tensor(name, datatype, dimensions, array.reshape(dimensions))


def to_bytes(array: NDArray[np.float32]) -> bytes:
    """The raw bytes of an FP32 output."""
    return array.astype("<f4", copy=False).tobytes()


def _dtype(name: str, datatype: str) -> "np.dtype[Any]":
    try:
        return _INPUT_DTYPES[datatype]
    except KeyError:
        raise MalformedRequest(
            f"input {name!r} has datatype {datatype[:20]!r}; give {', '.join(_INPUT_DTYPES)} or {BYTES}"
        ) from None


def _element_count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _check_count(name: str, shape: tuple[int, ...], texts: list[str]) -> list[str]:
    if len(texts) != _element_count(shape):
        raise MalformedRequest(
            f"input {name!r} has {len(texts)} strings; its shape needs {_element_count(shape)}"
        )
    return texts


def _split_strings(name: str, data: memoryview) -> Iterator[str]:
    offset = 0
    while offset < len(data):
        if offset + 4 > len(data):
            raise MalformedRequest(f"input {name!r} ends in the middle of the length of a string")
        (length,) = struct.unpack_from("<I", data, offset)
        offset += 4
        if offset + length > len(data):
            raise MalformedRequest(
                f"input {name!r} has a string of {length} bytes, of which only {len(data) - offset} are there"
            )
        yield _text(name, bytes(data[offset : offset + length]))
        offset += length


def _text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise MalformedRequest(f"input {name!r} has a string that is not UTF-8") from None
    raise MalformedRequest(f"input {name!r} has a value of type {type(value).__name__}; give strings")


def _integers(name: str, datatype: str, values: Iterable[Any]) -> Iterator[int]:
    # Checked before numpy sees them: among strings it would make every value as long as the longest.
    for value in values:
        if type(value) is not int:
            raise MalformedRequest(
                f"input {name!r} has a value of type {type(value).__name__}; give integers for {datatype}"
            )
        yield value


def _flatten(name: str, data: Iterable[Any], dimensions: int = _MAX_DIMENSIONS) -> Iterator[Any]:
    for value in data:
        if not isinstance(value, list):
            yield value
        elif dimensions > 1:
            yield from _flatten(name, value, dimensions - 1)
        else:
            raise MalformedRequest(f"input {name!r} has data nested in more than {_MAX_DIMENSIONS} lists")
