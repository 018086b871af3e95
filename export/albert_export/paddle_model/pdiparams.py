"""The weight file .pdiparams: where each tensor's bytes lie.

The file is a plain sequence of records in the order of the sorted tensor names (which it does not hold):
  uint32 version 0, uint64 number of LoD levels 0, uint32 tensor version 0, int32 size of the description,
  the description (protobuf: field 1 varint data type, field 2 varint repeated dimensions),
  the raw little-endian data.
"""

import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from albert_runtime.artifact.tensor_table import ITEM_SIZES, TensorRecord
from albert_runtime.errors import ArtifactError

_HEADER = struct.Struct("<IQIi")
# Paddle's numbers of the types.
_TYPES = {4: "float16", 5: "float32", 21: "int8", 22: "bfloat16"}
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
                    f"{path.name}: tensor {name} has shape {list(shape)}, not {list(shapes[name])}"
                )
            if dtype != dtypes[name]:
                raise ArtifactError(f"{path.name}: tensor {name} is {dtype}, not {dtypes[name]}")
            offset, length = file.tell(), math.prod(shape) * ITEM_SIZES[dtype]
            if offset + length > size:
                raise ArtifactError(f"{path.name} is truncated within tensor {name} (is the disk full?)")
            file.seek(length, 1)
            ranges.append(TensorRecord(name, dtype, shape, offset, length))
        if file.tell() != size:
            raise ArtifactError(
                f"{path.name} holds {size - file.tell()} bytes more than its {len(ranges)} tensors"
            )
    return ranges


def _read_header(file: BinaryIO, path: Path, name: str) -> tuple[tuple[int, ...], str]:
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise ArtifactError(f"{path.name} ends before tensor {name} (is the disk full?)")
    version, levels, tensor_version, description_size = _HEADER.unpack(header)
    if (version, levels, tensor_version) != (0, 0, 0) or not 0 < description_size <= _MAX_DESCRIPTION:
        raise ArtifactError(f"{path.name}: the record of tensor {name} is not in the known form")
    description = file.read(description_size)
    numbers = _varints(description)
    # Alternating field tags and values: 0x08 the type, 0x10 one dimension each.
    tags, values = numbers[::2], numbers[1::2]
    if len(tags) != len(values) or tags[:1] != [0x08] or any(tag != 0x10 for tag in tags[1:]):
        raise ArtifactError(f"{path.name}: the description of tensor {name} is not in the known form")
    if values[0] not in _TYPES:
        known = ", ".join(_TYPES.values())
        raise ArtifactError(f"{path.name}: tensor {name} is none of {known} (Paddle's type {values[0]})")
    return tuple(values[1:]), _TYPES[values[0]]


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
