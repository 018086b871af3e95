"""Where a masked-LM model is asked for the vocabulary: the ``positions`` of Predictor.run."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import InputError
from .packed import Int32, PackedBatch


def tokens_at(batch: PackedBatch, positions: object) -> Int32:
    """Packed tokens, int32 [P], at the columns that ``positions`` lists for each row, row after row.

    InputError names the row and the column that is masked or outside, or what is no list of columns.
    """
    rows, width = batch.shape
    if isinstance(positions, str) or not isinstance(positions, Sequence | np.ndarray):
        raise InputError(f"positions must be a list of columns for every row, not {type(positions).__name__}")
    if len(positions) != rows:
        raise InputError(f"positions has {len(positions)} rows, the batch has {rows}; give every row a list")
    columns = [_columns(row, values, width) for row, values in enumerate(positions)]
    row_of = np.repeat(np.arange(rows), [len(values) for values in columns])
    column_of = np.concatenate(columns)
    if not len(column_of):
        raise InputError("positions names no column; give at least one")
    place = np.full(rows * width, -1, np.int64)
    kept = batch.unmasked()
    place[batch.padded_indices(width)[kept]] = np.flatnonzero(kept)
    tokens = place[row_of * width + column_of]
    if tokens.min() < 0:
        index = int((tokens < 0).argmax())
        raise InputError(f"positions: row {row_of[index]}, column {column_of[index]} is masked")
    return tokens.astype(np.int32)


def _columns(row: int, values: Any, width: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    if isinstance(values, Sequence | np.ndarray) and not len(values):
        return np.empty(0, np.int64)
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, OverflowError):
        array = np.empty((0, 0))
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InputError(f"positions: row {row} must be a list of columns, as in [[3], [1, 4]]")
    outside = (array < 0) | (array >= width)
    if outside.any():
        column = int(array[outside][0])
        raise InputError(f"positions: row {row}, column {column} lies outside the {width} columns")
    return array.astype(np.int64)
