"""Checks that every form of a batch shares, and the messages of those that fail."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .packed import Int32, ModelLimits, PackedBatch


def validate_ids(
    name: str, values: NDArray[Any], limit: int | None, locate: Callable[[int], tuple[int, int]]
) -> Int32:
    """Values as int32, all within [0, limit); the caller's ``locate`` turns an index into (row, column)."""
    bound = 2**31 if limit is None else limit
    if values.min() < 0 or values.max() >= bound:
        index = int(((values < 0) | (values >= bound)).argmax())
        row, column = locate(index)
        table = "vocabulary" if name == "input_ids" else "token types"
        known = "" if limit is None else f" of the model's {table}"
        raise InputError(
            f"row {row}, column {column}: {name} holds {int(values[index])}, "
            f"allowed are 0 to {bound - 1}{known}; check that the ids were made for this model"
        )
    return values.astype(np.int32)


def validate_types(
    types: NDArray[Any] | None, count: int, limits: ModelLimits, locate: Callable[[int], tuple[int, int]]
) -> Int32:
    """As ``validate_ids`` for token types; zeros where there are none."""
    if types is None:
        return np.zeros(count, np.int32)
    return validate_ids("token_type_ids", types, limits.type_vocab_size, locate)


def starts(counts: NDArray[Any]) -> Int32:
    """Where each row starts among the packed tokens, int32 [B + 1], from the rows' numbers of tokens."""
    firsts = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=firsts[1:])
    if firsts[-1] >= 2**31:
        raise InputError(f"the batch has {int(firsts[-1])} tokens, more than 2147483647; split it")
    return firsts.astype(np.int32)


def too_long(where: str, length: int, longest: int | None, *, at_least: bool = False) -> InputError:
    """The error of a row longer than the model's positions; ``at_least``: nobody counted the rest of it.

    Its remedy is one that Python, the command line and all routes of a server have.
    """
    return InputError(
        f"{where} is {'at least ' if at_least else ''}{length} tokens long, max_position_embeddings is "
        f"{longest}; shorten it or set truncate"
    )


def dtype(array: NDArray[Any]) -> str:
    """What an array holds, for messages."""
    return "integers beyond 64 bits or mixed types" if array.dtype.kind == "O" else str(array.dtype)


def validate_packed(batch: PackedBatch, limits: ModelLimits) -> PackedBatch:
    """A batch that was packed before; InputError unless this model can take it."""
    count, (rows, width) = batch.tokens, batch.shape
    lengths = np.diff(batch.row_starts)
    consistent = (
        len(batch.positions) == len(batch.token_type_ids) == count
        and len(batch.masked_first) == len(lengths) == rows > 0
        and batch.row_starts[0] == 0
        and batch.row_starts[-1] == count
        and lengths.min() > 0
        and rows % (batch.choices or 1) == 0
    )
    if not consistent:
        raise InputError("the PackedBatch's arrays do not fit together; make it with Predictor.pack")
    for name, values, limit in (
        ("input_ids", batch.input_ids, limits.vocab_size),
        ("token_type_ids", batch.token_type_ids, limits.type_vocab_size),
        ("positions", batch.positions, min(width, limits.max_position_embeddings or width)),
    ):
        if values.min() < 0 or (limit is not None and values.max() >= limit):
            raise InputError(
                f"the PackedBatch's {name} must be from 0 to {limit - 1 if limit else 2**31 - 1}; "
                "pack it with the Predictor that runs it"
            )
    return batch
