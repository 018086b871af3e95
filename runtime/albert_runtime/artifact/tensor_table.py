"""The tensor table of a manifest: where every tensor lies in the weight file, and which there must be."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .config import AlbertConfig
from .json_fields import clip, fail_field, get
from .tasks import Head

ITEM_SIZES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}
# A tensor of int8 stands for its integers times the float32 tensor of its name and this.
SCALE = "_scale"
# Read by rows, to look one up or to multiply with its transpose. Any other matrix is [in, out].
_BY_ROW = ("embeddings.word_embeddings.weight", "predictions.decoder.weight")


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """Where the raw bytes of one tensor lie in the weight file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int


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


def read_tensor(index: int, data: Any) -> TensorRecord:
    """One entry of the table."""
    where = f"tensors[{index}]"
    if not isinstance(data, dict):
        fail_field(where, f"must be an object, not {clip(data)}")
    shape = get(data, "shape", list, where)
    if not all(isinstance(size, int) and not isinstance(size, bool) for size in shape):
        fail_field(f"{where}.shape", f"must hold whole numbers, not {clip(shape)}")
    return TensorRecord(
        get(data, "name", str, where),
        get(data, "dtype", str, where),
        tuple(shape),
        get(data, "offset", int, where),
        get(data, "length", int, where),
    )


def check_tensors(tensors: Sequence[TensorRecord], config: AlbertConfig, head: Head, size: int) -> None:
    """ArtifactError unless these are the model's tensors, each in its place in a file of ``size`` bytes."""
    # Ahead of building the table of names, which a hostile config could make huge.
    if config.num_hidden_groups * config.inner_group_num > len(tensors):
        fail_field("tensors", f"holds {len(tensors)} tensors, fewer than the config's layer groups need")
    expected = tensor_shapes(config, head)
    dtypes = {tensor.name: tensor.dtype for tensor in tensors}
    missing = expected.keys() - dtypes.keys()
    if not missing:
        expected = with_scales(expected, dtypes)
        missing = expected.keys() - dtypes.keys()
    if missing:
        fail_field("tensors", f"lacks {min(missing)}")
    if len(tensors) > len(expected):
        names = [tensor.name for tensor in tensors]
        extra = next((name for name in names if name not in expected), None)
        fail_field(
            "tensors", "names a tensor twice" if extra is None else f"has an unknown tensor {clip(extra)}"
        )
    end, previous = 0, ""
    for tensor in sorted(tensors, key=lambda tensor: tensor.offset):
        name, shape = tensor.name, expected[tensor.name]
        if tensor.shape != shape:
            fail_field(name, f"has shape {list(tensor.shape)}, the config asks for {list(shape)}")
        if tensor.dtype not in ITEM_SIZES:
            fail_field(name, f"has dtype {clip(tensor.dtype)}; known are {', '.join(ITEM_SIZES)}")
        if name.endswith(SCALE) and tensor.dtype != "float32":
            fail_field(name, f"has dtype {tensor.dtype}, scales are float32")
        if tensor.dtype == "int8" and len(shape) != 2:
            fail_field(name, "has dtype int8, which only a matrix can have")
        needed = math.prod(shape) * ITEM_SIZES[tensor.dtype]
        if tensor.length != needed:
            fail_field(name, f"has length {tensor.length}, its shape and dtype need {needed}")
        if tensor.offset < 0 or tensor.offset + tensor.length > size:
            fail_field(
                name, f"ends at byte {tensor.offset + tensor.length}, outside the weight file of {size} bytes"
            )
        if tensor.offset < end:
            fail_field(name, f"overlaps {previous} in the weight file")
        end, previous = tensor.offset + tensor.length, name
