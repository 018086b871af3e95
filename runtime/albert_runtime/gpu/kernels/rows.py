"""Copies of rows: some of them gathered, or all put in their places among padding."""

import torch
import triton
import triton.language as tl

from .launch import launch, power_of_two
from .quantize import warps_for


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
    launch(
        copy_rows_kernel,
        (rows,),
        *(x, index, out, count),
        X_STRIDE=x.stride(0),
        OUT_STRIDE=out.stride(0),
        COLUMNS=columns,
        SCATTER=scatter,
        BLOCK=power_of_two(columns),
        warps=warps_for(columns),
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
    BLOCK: tl.constexpr,
):
    """One row of ``gather_rows`` or ``scatter_rows``."""
    row = tl.program_id(0).to(tl.int64)
    if row >= tl.load(count_start):
        return
    other = tl.load(index + row).to(tl.int64)
    if other < 0:
        return
    if SCATTER:
        source, target = row, other
    else:
        source, target = other, row
    column = tl.arange(0, BLOCK)
    inside = column < COLUMNS
    x = tl.load(x_start + source * X_STRIDE + column, mask=inside)
    tl.store(out_start + target * OUT_STRIDE + column, x.to(out_start.dtype.element_ty), mask=inside)
