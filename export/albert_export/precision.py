"""Precisions an artifact can be stored in: which tensors are rounded, how, and what may be lost by it."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.artifact.tasks import Head
from albert_runtime.artifact.tensor_table import ITEM_SIZES, SCALE, scaled_by_row, tensor_shapes, with_scales

from .errors import ExportError

Tensor = tuple[str, np.ndarray]


@dataclass(frozen=True)
class Precision:
    """One precision, and the type of its matrices in manifest and Paddle.

    ``least_cosine`` is asked of the vectors of every output against the same model in float32, or only of the
    ``typical`` one; None where errors are held to the bounds of float32 itself.
    """

    name: str
    dtype: str
    least_cosine: float | None
    typical: bool = False

    @property
    def narrow(self) -> bool:
        """Whether values are stored, and go from matrix to matrix, in 16 bits."""
        return self.dtype in ("float16", "bfloat16")

    @property
    def quantized(self) -> bool:
        """Whether matrices are stored as int8 and scales."""
        return self.dtype == "int8"

    @property
    def rounded(self) -> bool:
        """Whether the artifact's values are no longer those that it was made from."""
        return self.dtype != "float32"


PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("fp32", "float32", None),
        Precision("fp16", "float16", 0.999),
        Precision("bf16", "bfloat16", 0.999),
        # Trained models turn some tokens far; in the small one here the typical cosine stays above 0.997
        # while the least falls to 0.96.
        Precision("int8", "int8", 0.99, typical=True),
    )
}
FP32 = PRECISIONS["fp32"]
# In int8 tables of a few rows, which other embeddings are added to, and all vectors stay float32.
_ADDED = ("embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight")
_GREATEST = 127  # symmetric: -128 is not used


def dtypes(config: AlbertConfig, head: Head, precision: Precision) -> dict[str, str]:
    """The type of every tensor of the weight file by name: those of the model, and scales of the int8 ones.

    LayerNorm keeps float32: it computes in it, and its parameters are a thousandth of the whole.
    """

    def dtype(name: str, shape: tuple[int, ...]) -> str:
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
    """What the values of the weight file take."""
    types = dtypes(config, head, precision)
    shapes = stored_shapes(config, head, precision)
    return sum(ITEM_SIZES[types[name]] * math.prod(shape) for name, shape in shapes.items())


def rounded(tensors: Iterable[Tensor], types: Mapping[str, str]) -> Iterator[Tensor]:
    """Tensors in their stored types, rounded to nearest, ties to even; bfloat16 as its bits in uint16.

    Behind a tensor of int8 come its scales. Raises ExportError for a value that float16 cannot hold.
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
    """Integers -127..127 nearest to a float32 matrix over its scales, and these, one a row or one a column.

    A scale is the greatest absolute value there over 127, as the engine has it for float32 matrices.
    """
    greatest = np.abs(matrix).max(axis=1 if by_row else 0)
    most, zeros = np.float32(_GREATEST), np.zeros_like(greatest)
    usable = greatest >= 1e-30  # the inverse of less may be infinite
    factor = np.divide(most, greatest, out=zeros.copy(), where=usable)
    scale = np.divide(greatest, most, out=zeros, where=usable)
    return np.rint(matrix * (factor[:, None] if by_row else factor)).astype(np.int8), scale


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Finite float32 rounded to bfloat16, the upper halves of the floats: uint16."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """The inverse: uint16 to float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
