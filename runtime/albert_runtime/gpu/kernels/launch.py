"""Launching a kernel: the one place that all launches go through."""

from typing import Any

import triton

# Whether kernels run in Triton's interpreter, on CPU tensors: for tests where there is no GPU.
INTERPRETED: bool = triton.knobs.runtime.interpret


def launch(
    kernel: Any, grid: tuple[int, ...], *arguments: Any, warps: int = 4, stages: int = 3, **constants: Any
) -> None:
    """Start a grid of programs of ``warps`` warps each; their loops load ``stages`` steps ahead."""
    # Which sums and products the compiler fuses is said, not left to the default of a version.
    kernel[grid](*arguments, num_warps=warps, num_stages=stages, enable_fp_fusion=True, **constants)


def power_of_two(size: int, least: int = 1) -> int:
    """The smallest power of two that is at least ``size`` and ``least``: what a kernel's block must be."""
    return max(least, 1 << (size - 1).bit_length())
