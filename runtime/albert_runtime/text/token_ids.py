"""Lists of token ids in the place of texts."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..batch.checks import validate_ids
from ..batch.packed import ModelLimits
from ..errors import InputError
from .encoded import Encoded


def validate_token_ids(item: Any, row: int, limits: ModelLimits) -> list[int]:
    """The ids; InputError, which names the row, unless they are whole numbers of the model's vocabulary."""
    try:
        ids = np.asarray(item)
    except (ValueError, OverflowError):
        ids = np.empty((0, 0))
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise InputError(f"row {row} is no string, no pair of strings and no list of token ids")
    found: list[int] = validate_ids(
        "input_ids", ids, limits.vocab_size, lambda column: (row, column)
    ).tolist()
    return found


def row_of_ids(ids: Sequence[int]) -> Encoded:
    """A row of these ids, which stand for no characters."""
    count = len(ids)
    return Encoded(list(ids), [0] * count, [(0, 0)] * count, [None] * count, [None] * count)


def stands_for_text(row: Encoded) -> bool:
    """Whether a row was made of a text, not of ids."""
    return any(part is not None for part in row.parts)
