"""The precisions that the GPU engine computes in."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Numbers:
    """One precision.

    ``activations``: the type of everything between two kernels, of the embedding tables and of the matrices
    outside the layers. ``weights``: the type of the layers' matrices; int8 has a scale for each output, and
    activations are quantized row by row. Sums, LayerNorm, softmax and activation functions are float32.
    ``tf32``: float32 products are rounded to TensorFloat-32, 10 bits of fraction.
    """

    activations: torch.dtype
    weights: torch.dtype
    tf32: bool = False

    @property
    def quantized(self) -> bool:
        """Whether the layers' products are of integers."""
        return self.weights is torch.int8


PRECISIONS = {
    "fp32": Numbers(torch.float32, torch.float32),
    "tf32": Numbers(torch.float32, torch.float32, tf32=True),
    "fp16": Numbers(torch.float16, torch.float16),
    "bf16": Numbers(torch.bfloat16, torch.bfloat16),
    "int8": Numbers(torch.bfloat16, torch.int8),
}
