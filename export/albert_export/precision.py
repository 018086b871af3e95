"""Precisions an artifact can be stored in: which tensors are narrowed, how, and what may be lost by it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from albert_runtime.config import AlbertConfig
from albert_runtime.manifest import tensor_shapes
from albert_runtime.tasks import Head

from .errors import ExportError

Tensor = tuple[str, np.ndarray]


@dataclass(frozen=True)
class Precision:
    """One precision: its type as the manifest and Paddle name it, and the backends that run it on a CPU.

    ``least_cosine`` is asked of every vector of every output against the same model in float32; None where
    errors are held to the bounds of float32 itself.
    """

    name: str
    dtype: str
    backends: tuple[str, ...]
    least_cosine: float | None

    @property
    def narrow(self) -> bool:
        """Whether values are stored in 16 bits."""
        return self.dtype != "float32"


PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("fp32", "float32", ("native", "onnxruntime", "paddle"), None),
        Precision("fp16", "float16", ("native", "onnxruntime"), 0.999),
        Precision("bf16", "bfloat16", ("native", "paddle"), 0.999),
    )
}
FP32 = PRECISIONS["fp32"]


def dtypes(config: AlbertConfig, head: Head, precision: Precision) -> dict[str, str]:
    """The stored type of every tensor by name.

    LayerNorm keeps float32: it computes in it, and its parameters are a thousandth of the whole.
    """
    return {
        name: "float32" if name.rsplit(".", 1)[0].endswith("layer_norm") else precision.dtype
        for name in tensor_shapes(config, head)
    }


def narrowed(tensors: Iterable[Tensor], types: dict[str, str]) -> Iterator[Tensor]:
    """Tensors in their stored types, rounded to nearest, ties to even; bfloat16 as its bits in uint16.

    Raises ExportError for a value that float16 cannot hold.
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
        else:
            yield name, tensor


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Finite float32 rounded to bfloat16, the upper halves of the floats: uint16."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """The inverse: uint16 to float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
