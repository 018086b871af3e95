"""The weight file .pdiparams: where each tensor's bytes lie.

The file is a plain sequence of records in the order of the sorted tensor names (which it does not hold):
  uint32 version 0, uint64 number of LoD levels 0, uint32 tensor version 0, int32 size of the description,
  the description (protobuf: field 1 varint data type, field 2 varint repeated dimensions),
  the raw little-endian data.
"""

import math
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from albert_runtime.artifact.tensor_table import TensorRecord
from albert_runtime.errors import ArtifactError

from ..checkpoint.stored_tensor import shown

# Paddle's number of a type (VarType.Type in framework.proto) -> numpy's name of it, or bfloat16.
DATA_TYPES = {
    0: "bool",
    1: "int16",
    2: "int32",
    3: "int64",
    4: "float16",
    5: "float32",
    6: "float64",
    20: "uint8",
    21: "int8",
    22: "bfloat16",
}
_HEADER = struct.Struct("<IQIi")
_MAX_DESCRIPTION = 64


def read_tensor_ranges(
    path: Path, shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, str]
) -> list[TensorRecord]:
    """Walk the whole file, which must hold exactly the tensors of ``shapes``, each once, and not a byte more.

    Raises ArtifactError naming the first tensor that does not fit.
    """
    size = path.stat().st_size
    ranges = []
    with path.open("rb") as file:
        for name in sorted(shapes):
            shape, dtype = _read_header(file, path, name)
            if shape != shapes[name]:
                raise ArtifactError(
                    f"{path.name}: tensor {shown(name)} has shape {list(shape)}, not {list(shapes[name])}"
                )
            if dtype != dtypes[name]:
                raise ArtifactError(f"{path.name}: tensor {shown(name)} is {dtype}, not {dtypes[name]}")
            offset, length = file.tell(), math.prod(shape) * _raw_type(dtype).itemsize
            if offset + length > size:
                raise ArtifactError(f"{path.name} ends within tensor {shown(name)} (is the disk full?)")
            file.seek(length, 1)
            ranges.append(TensorRecord(name, dtype, shape, offset, length))
        if file.tell() != size:
            raise ArtifactError(
                f"{path.name} holds {size - file.tell()} bytes more than its {len(ranges)} tensors"
            )
    return ranges


def map_tensors(path: Path, ranges: Iterable[TensorRecord]) -> dict[str, np.ndarray]:
    """The tensors that lie at ``ranges`` by name: parts of the file, mapped read-only; bfloat16 as float32.

    They may lie at any offset, so numpy may take them for unaligned.
    """
    data = np.memmap(path, np.uint8, "r")
    tensors = {}
    for tensor in ranges:
        count = math.prod(tensor.shape)
        values = np.frombuffer(data, _raw_type(tensor.dtype), count, tensor.offset)
        if tensor.dtype == "bfloat16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        tensors[tensor.name] = values.reshape(tensor.shape)
    return tensors


def _read_header(file: BinaryIO, path: Path, name: str) -> tuple[tuple[int, ...], str]:
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise ArtifactError(f"{path.name} ends before tensor {shown(name)} (is the disk full?)")
    version, levels, tensor_version, description_size = _HEADER.unpack(header)
    if (version, levels, tensor_version) != (0, 0, 0) or not 0 < description_size <= _MAX_DESCRIPTION:
        raise ArtifactError(f"{path.name}: the record of tensor {shown(name)} is not in the known form")
    description = file.read(description_size)
    numbers = _varints(description)
    # Alternating field tags and values: 0x08 the type, 0x10 one dimension each.
    tags, values = numbers[::2], numbers[1::2]
    if len(tags) != len(values) or tags[:1] != [0x08] or any(tag != 0x10 for tag in tags[1:]):
        raise ArtifactError(f"{path.name}: the description of tensor {shown(name)} is not in the known form")
    if values[0] not in DATA_TYPES:
        raise ArtifactError(f"{path.name}: tensor {shown(name)} is of an unknown type ({values[0]})")
    return tuple(values[1:]), DATA_TYPES[values[0]]


def _raw_type(dtype: str) -> np.dtype:
    """The type that the bytes of a tensor are read as; bfloat16 is its bits."""
    return np.dtype("u2" if dtype == "bfloat16" else dtype).newbyteorder("<")


def _varints(data: bytes) -> list[int]:
    """All varints of ``data``; an unfinished one at the end is dropped."""
    numbers, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(value)
            value = shift = 0
    return numbers
