"""Copies of rows: some of them gathered, or all put in their places among padding."""

import torch
import triton
import triton.language as tl

from .launch import launch
from .row_tile import RowTile, rows_of_tile


def gather_rows(x: torch.Tensor, rows: torch.Tensor, out: torch.Tensor, count: torch.Tensor) -> None:
    """out[i] = x[rows[i]] for the first ``count`` of ``rows`` int32 [M]; converted to the type of ``out``."""
    _copy(x, rows, out, count, out.shape[0], scatter=False)


def scatter_rows(x: torch.Tensor, places: torch.Tensor, out: torch.Tensor, count: torch.Tensor) -> None:
    """out[places[i]] = x[i] for the first ``count`` of ``places`` int32 [M], those below 0 excepted."""
    _copy(x, places, out, count, x.shape[0], scatter=True)


def _copy(
    x: torch.Tensor, index: torch.Tensor, out: torch.Tensor, count: torch.Tensor, rows: int, *, scatter: bool
) -> None:
    columns = x.shape[1]
    tile = RowTile.of(columns)
    launch(
        copy_rows_kernel,
        tile.grid(rows),
        *(x, index, out, count),
        X_STRIDE=x.stride(0),
        OUT_STRIDE=out.stride(0),
        COLUMNS=columns,
        SCATTER=scatter,
        TILE_ROWS=tile.rows,
        TILE_COLUMNS=tile.columns,
        warps=tile.warps,
    )


@triton.jit
def copy_rows_kernel(
    x_start,
    index,
    out_start,
    count_start,
    X_STRIDE: tl.constexpr,
    OUT_STRIDE: tl.constexpr,
    COLUMNS: tl.constexpr,
    SCATTER: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLUMNS: tl.constexpr,
):
    """Some rows of ``gather_rows`` or ``scatter_rows``."""
    row, there = rows_of_tile(count_start, TILE_ROWS)
    other = tl.load(index + row, mask=there, other=-1).to(tl.int64)
    if SCATTER:
        source, target = row, other
    else:
        source, target = other, row
    column = tl.arange(0, TILE_COLUMNS)[None, :]
    inside = (other >= 0) & (column < COLUMNS)
    x = tl.load(x_start + source * X_STRIDE + column, mask=inside)
    tl.store(out_start + target * OUT_STRIDE + column, x.to(out_start.dtype.element_ty), mask=inside)
