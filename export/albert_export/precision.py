"""The precisions of an artifact: which tensors are rounded, how, and how much error is allowed."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.artifact.sentence import PREFIX
from albert_runtime.artifact.tasks import Head
from albert_runtime.artifact.tensor_table import ITEM_SIZES, SCALE, scaled_by_row, tensor_shapes, with_scales

from .errors import ExportError

Tensor = tuple[str, np.ndarray]


@dataclass(frozen=True)
class Precision:
    """One precision; ``dtype`` is the type of its matrices in the manifest and in Paddle.

    ``least_cosine`` is the lowest cosine allowed between a vector of an output and that of the unrounded
    model: of every vector, or with ``typical`` of the median one. None: the errors must stay within the
    tolerance of float32.
    """

    name: str
    dtype: str
    least_cosine: float | None
    typical: bool = False

    @property
    def narrow(self) -> bool:
        """Whether weights and the activations between matrices are in 16 bits."""
        return self.dtype in ("float16", "bfloat16")

    @property
    def quantized(self) -> bool:
        """Whether matrices are stored as int8 with scales."""
        return self.dtype == "int8"

    @property
    def rounded(self) -> bool:
        """Whether the stored weights differ from the checkpoint's."""
        return self.dtype != "float32"


PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("fp32", "float32", None),
        Precision("fp16", "float16", 0.999),
        Precision("bf16", "bfloat16", 0.999),
        # In trained models int8 changes the direction of a few tokens a lot: in the small one tested here the
        # median cosine stays above 0.997 while the lowest falls to 0.96.
        Precision("int8", "int8", 0.99, typical=True),
    )
}
FP32 = PRECISIONS["fp32"]
# With int8 these small tables, whose rows are added to the word embeddings, stay float32, as do all vectors.
_ADDED = ("embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight")
_GREATEST = 127  # symmetric: -128 is not used


def dtypes(config: AlbertConfig, head: Head, precision: Precision) -> dict[str, str]:
    """The type of every tensor in the weight file, by name: the model's tensors and the scales of int8 ones.

    LayerNorm stays float32: it computes in float32, and its parameters are a thousandth of the whole. So do
    the dense steps of a sentence head, which run once for a text.
    """

    def dtype(name: str, shape: tuple[int, ...]) -> str:
        if name.startswith(PREFIX):
            return "float32"
        if precision.quantized:
            return "int8" if len(shape) == 2 and name not in _ADDED else "float32"
        return "float32" if name.rsplit(".", 1)[0].endswith("layer_norm") else precision.dtype

    shapes = tensor_shapes(config, head)
    types = {name: dtype(name, shape) for name, shape in shapes.items()}
    return {name: types.get(name, "float32") for name in with_scales(shapes, types)}


def stored_shapes(config: AlbertConfig, head: Head, precision: Precision) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of the weight file by name."""
    return with_scales(tensor_shapes(config, head), dtypes(config, head, precision))


def stored_bytes(config: AlbertConfig, head: Head, precision: Precision) -> int:
    """The size of the weight file's tensors."""
    types = dtypes(config, head, precision)
    shapes = stored_shapes(config, head, precision)
    return sum(ITEM_SIZES[types[name]] * math.prod(shape) for name, shape in shapes.items())


def rounded(tensors: Iterable[Tensor], types: Mapping[str, str]) -> Iterator[Tensor]:
    """Tensors in their stored types, rounded to nearest, ties to even; bfloat16 as its bits in uint16.

    An int8 tensor is followed by its scales. Raises ExportError for a value that float16 cannot hold.
    """
    for name, tensor in tensors:
        if types[name] == "float16":
            with np.errstate(over="ignore"):
                half = tensor.astype(np.float16)
            if not np.isfinite(half).all():
                most = np.abs(tensor).max()
                raise ExportError(f"tensor {name} holds {most:.4g}, float16 at most 65504; use --bf16")
            yield name, half
        elif types[name] == "bfloat16":
            yield name, to_bfloat16(tensor)
        elif types[name] == "int8":
            integers, scale = quantize(tensor, by_row=scaled_by_row(name))
            yield name, integers
            yield name + SCALE, scale
        else:
            yield name, tensor


def quantize(matrix: np.ndarray, *, by_row: bool) -> tuple[np.ndarray, np.ndarray]:
    """A float32 matrix as integers -127..127, and the scales, one per row or one per column.

    A scale is the greatest absolute value of its row or column divided by 127, as in the engine when it
    quantizes float32 matrices.
    """
    greatest = np.abs(matrix).max(axis=1 if by_row else 0)
    most, zeros = np.float32(_GREATEST), np.zeros_like(greatest)
    usable = greatest >= 1e-30  # the inverse of a smaller value may be infinite
    factor = np.divide(most, greatest, out=zeros.copy(), where=usable)
    scale = np.divide(greatest, most, out=zeros, where=usable)
    return np.rint(matrix * (factor[:, None] if by_row else factor)).astype(np.int8), scale


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Finite float32 values rounded to bfloat16, returned as bits in uint16."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """The inverse of to_bfloat16: uint16 bits to float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
