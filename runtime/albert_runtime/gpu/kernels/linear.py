"""out = activation(x W^T + bias) + residual: the product of packed rows by a weight matrix [N, K].

The sum over K runs in one order, in tiles whose shape depends on K, N and the type alone, and is never split:
a row has the same bits whatever other rows there are.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from .activation import activate
from .launch import INTERPRETED, launch, power_of_two


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear map: weight [N, K], K contiguous, and bias float32 [N].

    ``scale`` float32 [N]: of an int8 weight, what an integer of that row is worth. ``tf32``: whether float32
    products are rounded to TensorFloat-32.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    scale: torch.Tensor | None = None
    tf32: bool = False

    def columns(self, first: int, stop: int) -> "Linear":
        """The map to the outputs ``first`` to ``stop`` alone; nothing is copied."""
        scale = None if self.scale is None else self.scale[first:stop]
        return Linear(self.weight[first:stop], self.bias[first:stop], scale, self.tf32)


@dataclass(frozen=True, slots=True)
class _Tile:
    """Rows, columns and steps along K of the part of a product that one program computes."""

    rows: int
    columns: int
    inner: int
    warps: int
    stages: int


# By the type of the weight. float32 is multiplied without tensor cores, and in registers.
_TILES = {
    torch.float32: _Tile(64, 64, 32, 4, 3),
    torch.float16: _Tile(128, 128, 64, 8, 3),
    torch.bfloat16: _Tile(128, 128, 64, 8, 3),
    torch.int8: _Tile(128, 128, 128, 8, 3),
}
# A tile twice as wide loads a quarter less for a product, but leaves processors idle where columns are few.
# Its last step is taken in halves, or there would not be enough registers.
_WIDE = 256
_LEAST_WIDE_COLUMNS = 2048
# The tiles of so many row blocks run one after another, and find each other's weights in the cache.
_ROW_BLOCKS = 8


def _tile(weight: torch.Tensor) -> _Tile:
    columns, inner = weight.shape
    tile = _TILES[weight.dtype]
    wide = weight.itemsize == 2 and columns % _WIDE == 0 and columns >= _LEAST_WIDE_COLUMNS
    return _Tile(
        tile.rows,
        _WIDE if wide else min(tile.columns, power_of_two(columns, 16)),
        min(tile.inner, power_of_two(inner, 32)),
        tile.warps,
        tile.stages,
    )


def linear(
    x: torch.Tensor,
    by: Linear,
    out: torch.Tensor,
    count: torch.Tensor,
    *,
    activation: str = "none",
    residual: torch.Tensor | None = None,
    x_scale: torch.Tensor | None = None,
) -> None:
    """Compute the first ``count`` rows of out [M, N] from those of x [M, K].

    Args:
        x: int8 if the weight is, else floats of any type; they are converted to the weight's.
        by: The linear map.
        out: Floats of any type; a view of columns of a wider tensor will do.
        count: int32 [1], on the GPU.
        activation: none, gelu (erf), gelu_new (tanh), relu or tanh.
        residual: [M, N], added last.
        x_scale: float32 [M], of an int8 x.
    """
    columns, inner = by.weight.shape
    tile = _tile(by.weight)
    grid = (triton.cdiv(out.shape[0], tile.rows) * triton.cdiv(columns, tile.columns),)
    launch(
        linear_kernel,
        grid,
        *(x, x_scale, by.weight, by.scale, by.bias, residual, out, count),
        X_STRIDE=x.stride(0),
        OUT_STRIDE=out.stride(0),
        RESIDUAL_STRIDE=0 if residual is None else residual.stride(0),
        COLUMNS=columns,
        INNER=inner,
        ACTIVATION=activation,
        PRODUCTS="tf32" if by.tf32 else "ieee",
        # NumPy has no bfloat16, and float32 holds every product of two of them exactly.
        WIDEN=INTERPRETED and by.weight.dtype == torch.bfloat16,
        TILE_ROWS=tile.rows,
        TILE_COLUMNS=tile.columns,
        TILE_INNER=tile.inner,
        ROW_BLOCKS=_ROW_BLOCKS,
        HALVES=tile.columns == _WIDE,
        warps=tile.warps,
        stages=tile.stages,
    )


@triton.jit
def linear_kernel(
    x_start,
    x_scale_start,
    weight_start,
    weight_scale_start,
    bias_start,
    residual_start,
    out_start,
    count_start,
    X_STRIDE: tl.constexpr,
    OUT_STRIDE: tl.constexpr,
    RESIDUAL_STRIDE: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    ACTIVATION: tl.constexpr,
    PRODUCTS: tl.constexpr,
    WIDEN: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLUMNS: tl.constexpr,
    TILE_INNER: tl.constexpr,
    ROW_BLOCKS: tl.constexpr,
    HALVES: tl.constexpr,
):
    """One tile of ``linear``. Reference: act(x @ weight.T + bias) + residual, in float32."""
    count = tl.load(count_start)
    tile = tl.program_id(0)
    column_blocks: tl.constexpr = (COLUMNS + TILE_COLUMNS - 1) // TILE_COLUMNS
    row_blocks = tl.cdiv(count, TILE_ROWS)
    if tile >= row_blocks * column_blocks:
        return
    first = tile // (ROW_BLOCKS * column_blocks) * ROW_BLOCKS
    height = tl.minimum(row_blocks - first, ROW_BLOCKS)
    within = tile % (ROW_BLOCKS * column_blocks)
    # Where the tile starts is 64 bits wide, places within it 32: fewer registers.
    first_row = ((first + within % height) * TILE_ROWS).to(tl.int64)
    first_column = (within // height * TILE_COLUMNS).to(tl.int64)
    row, column, inner = tl.arange(0, TILE_ROWS), tl.arange(0, TILE_COLUMNS), tl.arange(0, TILE_INNER)
    rows, columns = (count - first_row).to(tl.int32), (COLUMNS - first_column).to(tl.int32)
    # Rows and columns past the end read the last one; they are not written.
    read_row, read_column = tl.minimum(row, rows - 1), tl.minimum(column, columns - 1)
    x = x_start + first_row * X_STRIDE + (read_row[:, None] * X_STRIDE + inner[None, :])
    weight = weight_start + first_column * INNER + (read_column[None, :] * INNER + inner[:, None])
    weight_type: tl.constexpr = weight_start.dtype.element_ty
    sum_type: tl.constexpr = tl.int32 if weight_type == tl.int8 else tl.float32
    sums = tl.zeros((TILE_ROWS, TILE_COLUMNS), dtype=sum_type)
    for k in range(0, INNER, TILE_INNER):
        if INNER % TILE_INNER == 0:
            a = tl.load(x)
            b = tl.load(weight)
        else:
            inside = inner < INNER - k
            a = tl.load(x, mask=inside[None, :], other=0)
            b = tl.load(weight, mask=inside[:, None], other=0)
        a = a.to(weight_type)
        if WIDEN:
            a, b = a.to(tl.float32), b.to(tl.float32)
        sums = tl.dot(a, b, sums, input_precision=PRODUCTS, out_dtype=sum_type)
        x += TILE_INNER
        weight += TILE_INNER

    ends = (x_scale_start, weight_scale_start, bias_start, residual_start, out_start)
    if HALVES:
        half: tl.constexpr = TILE_COLUMNS // 2
        left, right = tl.split(tl.permute(tl.reshape(sums, (TILE_ROWS, 2, half)), (0, 2, 1)))
        finish(
            left, first_row, first_column, rows, columns, ends, RESIDUAL_STRIDE, OUT_STRIDE, ACTIVATION, True
        )
        first_column += half
        columns -= half
        finish(
            right, first_row, first_column, rows, columns, ends, RESIDUAL_STRIDE, OUT_STRIDE, ACTIVATION, True
        )
    else:
        whole: tl.constexpr = COLUMNS % TILE_COLUMNS == 0
        finish(
            sums, first_row, first_column, rows, columns, ends, RESIDUAL_STRIDE, OUT_STRIDE, ACTIVATION, whole
        )


@triton.jit
def finish(
    sums,
    first_row,
    first_column,
    rows,
    columns,
    ends,
    RESIDUAL_STRIDE: tl.constexpr,
    OUT_STRIDE: tl.constexpr,
    ACTIVATION: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """The last step: scales, bias, activation, residual; then the results are written.

    Of the block of sums that starts at (first_row, first_column), ``rows`` by ``columns`` are inside.
    ``ends``: where scales, bias, residual and results start. ``WHOLE``: all columns are inside.
    """
    x_scale_start, weight_scale_start, bias_start, residual_start, out_start = ends
    row, column = tl.arange(0, sums.shape[0]), tl.arange(0, sums.shape[1])
    read_row = tl.minimum(row, rows - 1)
    # Columns are masked and not repeated as rows are: several that lie side by side are read at once.
    in_columns = None if WHOLE else column < columns
    in_row = None if WHOLE else (column < columns)[None, :]
    result = sums.to(tl.float32)
    if weight_scale_start is not None:
        row_scale = tl.load(x_scale_start + first_row + read_row)
        column_scale = tl.load(weight_scale_start + first_column + column, mask=in_columns)
        result = result * row_scale[:, None] * column_scale[None, :]
    bias = tl.load(bias_start + first_column + column, mask=in_columns)
    result = activate(result + bias[None, :], ACTIVATION)
    if residual_start is not None:
        residual = residual_start + first_row * RESIDUAL_STRIDE + first_column
        at = read_row[:, None] * RESIDUAL_STRIDE + column[None, :]
        result += tl.load(residual + at, mask=in_row).to(tl.float32)
    out = out_start + first_row * OUT_STRIDE + first_column
    inside = (row < rows)[:, None] if WHOLE else (row < rows)[:, None] & (column < columns)[None, :]
    at = row[:, None] * OUT_STRIDE + column[None, :]
    tl.store(out + at, result.to(out_start.dtype.element_ty), mask=inside)
