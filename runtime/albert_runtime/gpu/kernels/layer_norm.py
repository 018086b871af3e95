"""LayerNorm of rows, and its integers for an int8 product that follows."""

import torch
import triton
import triton.language as tl

from .launch import launch
from .quantize import to_int8
from .row_tile import RowTile, rows_of_tile


def layer_norm(
    x: torch.Tensor,
    scale: torch.Tensor,
    shift: torch.Tensor,
    epsilon: float,
    out: torch.Tensor,
    count: torch.Tensor,
    quantized: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> None:
    """LayerNorm of the first ``count`` rows of x [M, H] to out [M, H]; out may be x.

    ``quantized``: (int8 [M, H], float32 [M]) for the results as integers and the scale of each row.
    """
    columns = x.shape[1]
    tile = RowTile.of(columns)
    integers, row_scale = quantized or (None, None)
    launch(
        layer_norm_kernel,
        tile.grid(x.shape[0]),
        *(x, scale, shift, out, integers, row_scale, count),
        X_STRIDE=x.stride(0),
        OUT_STRIDE=out.stride(0),
        INTEGERS_STRIDE=0 if integers is None else integers.stride(0),
        COLUMNS=columns,
        EPSILON=epsilon,
        TILE_ROWS=tile.rows,
        TILE_COLUMNS=tile.columns,
        warps=tile.warps,
    )


@triton.jit
def normalize(x, in_row, scale, shift, COLUMNS: tl.constexpr, EPSILON: tl.constexpr):
    """(x - mean) / sqrt(variance + EPSILON) * scale + shift of rows whose values past the end are 0."""
    mean = tl.sum(x, 1)[:, None] / COLUMNS
    centred = tl.where(in_row, x - mean, 0.0)
    variance = tl.sum(centred * centred, 1)[:, None] / COLUMNS
    factor = 1 / tl.sqrt(variance + EPSILON)  # one division a row; each takes a dozen instructions
    return centred * factor * scale + shift


@triton.jit
def layer_norm_kernel(
    x_start,
    scale_start,
    shift_start,
    out_start,
    integers_start,
    row_scale_start,
    count_start,
    X_STRIDE: tl.constexpr,
    OUT_STRIDE: tl.constexpr,
    INTEGERS_STRIDE: tl.constexpr,
    COLUMNS: tl.constexpr,
    EPSILON: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLUMNS: tl.constexpr,
):
    """Some rows of ``layer_norm``."""
    row, there = rows_of_tile(count_start, TILE_ROWS)
    column = tl.arange(0, TILE_COLUMNS)[None, :]
    in_row = column < COLUMNS
    inside = there & in_row
    x = tl.load(x_start + row * X_STRIDE + column, mask=inside, other=0).to(tl.float32)
    scale = tl.load(scale_start + column, mask=in_row, other=0)
    shift = tl.load(shift_start + column, mask=in_row, other=0)
    result = normalize(x, in_row, scale, shift, COLUMNS, EPSILON)
    tl.store(out_start + row * OUT_STRIDE + column, result.to(out_start.dtype.element_ty), mask=inside)
    if integers_start is not None:
        integers, row_scale = to_int8(result)
        tl.store(integers_start + row * INTEGERS_STRIDE + column, integers, mask=inside)
        tl.store(row_scale_start + row, row_scale, mask=there)
