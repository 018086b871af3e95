"""Rows of floats as int8 with a scale for each row, by the rule of csrc/kernels/quantize_rows.cc.

A GPU fuses the product with the addition that rounds it: for values within one rounding of a tie, the CPU
engine may choose the other integer.
"""

import torch
import triton
import triton.language as tl

from .launch import launch
from .row_tile import RowTile, rows_of_tile

_GREATEST = tl.constexpr(127.0)
_LEAST_PEAK = tl.constexpr(1e-30)  # 127 / peak might overflow below
# Added and subtracted it rounds a float32 below 2^22 to the nearest integer, ties to even.
_ROUNDER = tl.constexpr(12582912.0)  # 1.5 * 2^23


def quantize_rows(x: torch.Tensor, integers: torch.Tensor, scale: torch.Tensor, count: torch.Tensor) -> None:
    """The first ``count`` rows of x [M, K] to ``integers`` int8 [M, K] and ``scale`` float32 [M]."""
    columns = x.shape[1]
    tile = RowTile.of(columns)
    launch(
        quantize_rows_kernel,
        tile.grid(x.shape[0]),
        *(x, integers, scale, count),
        X_STRIDE=x.stride(0),
        INTEGERS_STRIDE=integers.stride(0),
        COLUMNS=columns,
        TILE_ROWS=tile.rows,
        TILE_COLUMNS=tile.columns,
        warps=tile.warps,
    )


@triton.jit
def to_int8(x):
    """(integers, scale [rows, 1]): x is about integers * scale, the greatest |x| of a row 127 * scale.

    A row that holds an infinity or NaN becomes NaN as a whole, one of zeros zero.
    """
    peak = tl.max(tl.abs(x), 1)[:, None]
    nothing = tl.sum(x * 0.0, 1)[:, None]  # 0, or NaN
    usable = (peak >= _LEAST_PEAK) & (nothing == 0)
    # `/` is approximate on a GPU; these are rounded as the CPU engine's.
    factor = tl.div_rn(_GREATEST, tl.where(usable, peak, 1.0))
    scaled = tl.where(usable, x * factor, 0.0)
    rounded = (scaled + _ROUNDER) - _ROUNDER
    return rounded.to(tl.int8), tl.where(usable, tl.div_rn(peak, _GREATEST), nothing)


@triton.jit
def quantize_rows_kernel(
    x_start,
    integers_start,
    scale_start,
    count_start,
    X_STRIDE: tl.constexpr,
    INTEGERS_STRIDE: tl.constexpr,
    COLUMNS: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLUMNS: tl.constexpr,
):
    """Some rows of ``quantize_rows``."""
    row, there = rows_of_tile(count_start, TILE_ROWS)
    column = tl.arange(0, TILE_COLUMNS)[None, :]
    inside = there & (column < COLUMNS)
    x = tl.load(x_start + row * X_STRIDE + column, mask=inside, other=0).to(tl.float32)
    integers, scale = to_int8(x)
    tl.store(integers_start + row * INTEGERS_STRIDE + column, integers, mask=inside)
    tl.store(scale_start + row, scale, mask=there)
