"""The shape of a program that works on whole rows."""

from dataclasses import dataclass

import triton
import triton.language as tl

from .launch import power_of_two

_VALUES = 4096  # of a program of 4 warps: 32 for each thread
_MOST_ROWS = 16


@dataclass(frozen=True, slots=True)
class RowTile:
    """``rows`` rows of ``columns`` values, a power of two, held by ``warps`` warps."""

    rows: int
    columns: int
    warps: int

    @classmethod
    def of(cls, columns: int) -> "RowTile":
        """The tile for rows of so many values, whatever the number of rows."""
        block = power_of_two(columns)
        return cls(min(max(_VALUES // block, 1), _MOST_ROWS), block, min(max(4 * block // _VALUES, 4), 16))

    def grid(self, rows: int) -> tuple[int]:
        """The programs for so many rows."""
        return (triton.cdiv(rows, self.rows),)


@triton.jit
def rows_of_tile(count_start, TILE_ROWS: tl.constexpr):
    """(rows [TILE_ROWS, 1] of this program, which of them there are)."""
    row = tl.program_id(0).to(tl.int64) * TILE_ROWS + tl.arange(0, TILE_ROWS)[:, None]
    return row, row < tl.load(count_start)
