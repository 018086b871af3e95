"""Rows of floats as int8 with a scale for each row, as csrc/kernels/quantize_rows.cc rounds them."""

import torch
import triton
import triton.language as tl

from .launch import launch, power_of_two

_GREATEST = tl.constexpr(127.0)
_LEAST_PEAK = tl.constexpr(1e-30)  # 127 / peak might overflow below
# Added and subtracted it rounds a float32 below 2^22 to the nearest integer, ties to even.
_ROUNDER = tl.constexpr(12582912.0)  # 1.5 * 2^23


def warps_for(columns: int) -> int:
    """Warps of a program that holds a row of so many values: about 8 values to a thread."""
    return min(max(power_of_two(columns) // 256, 1), 16)


def quantize_rows(x: torch.Tensor, integers: torch.Tensor, scale: torch.Tensor, count: torch.Tensor) -> None:
    """The first ``count`` rows of x [M, K] to ``integers`` int8 [M, K] and ``scale`` float32 [M]."""
    columns = x.shape[1]
    launch(
        quantize_rows_kernel,
        (x.shape[0],),
        *(x, integers, scale, count),
        X_STRIDE=x.stride(0),
        INTEGERS_STRIDE=integers.stride(0),
        COLUMNS=columns,
        BLOCK=power_of_two(columns),
        warps=warps_for(columns),
    )


@triton.jit
def to_int8(x):
    """(integers, scale) of one row: x is about integers * scale, the greatest |x| 127 * scale.

    A row that holds an infinity or NaN becomes NaN as a whole, one of zeros zero.
    """
    peak = tl.max(tl.abs(x), 0)
    nothing = tl.sum(x * 0.0, 0)  # 0, or NaN
    usable = (peak >= _LEAST_PEAK) & (nothing == 0)
    factor = _GREATEST / tl.where(usable, peak, 1.0)
    scaled = tl.where(usable, x * factor, 0.0)
    rounded = (scaled + _ROUNDER) - _ROUNDER
    return rounded.to(tl.int8), tl.where(usable, peak / _GREATEST, nothing)


@triton.jit
def quantize_rows_kernel(
    x_start,
    integers_start,
    scale_start,
    count_start,
    X_STRIDE: tl.constexpr,
    INTEGERS_STRIDE: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One row of ``quantize_rows``."""
    row = tl.program_id(0).to(tl.int64)
    if row >= tl.load(count_start):
        return
    column = tl.arange(0, BLOCK)
    inside = column < COLUMNS
    x = tl.load(x_start + row * X_STRIDE + column, mask=inside, other=0).to(tl.float32)
    integers, scale = to_int8(x)
    tl.store(integers_start + row * INTEGERS_STRIDE + column, integers, mask=inside)
    tl.store(scale_start + row, scale)
