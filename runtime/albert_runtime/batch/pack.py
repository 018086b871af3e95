"""From the forms a caller may pass (padded arrays, token-id lists, texts) to a PackedBatch, or an InputError.

Checks are vectorised; the row and column of an offender are searched only once a check has failed.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .checks import dtype, starts, too_long, validate_ids, validate_types
from .from_padded import pack_padded
from .packed import ModelLimits, PackedBatch

# Texts or pairs and truncate -> (token ids, token type ids) of each row.
Encoder = Callable[[Sequence[Any], bool], tuple[list[list[int]], list[list[int]]]]

NO_TOKENIZER = (
    "texts need a tokenizer and this artifact has none; pass token ids, or "
    "export again from a model that brings its tokenizer"
)
_FORMS = (
    "a dict of padded [batch, sequence] arrays, a list of token-id lists, or a list of texts or text pairs"
)
_CHOICE_FORMS = (
    "a dict of padded [batch, choices, sequence] arrays, or a list with, for every question, the list of its "
    "choices: token-id lists or (prompt, choice) pairs of texts"
)


def pack(
    batch: object,
    limits: ModelLimits,
    *,
    encoder: Encoder | None = None,
    truncate: bool = False,
    choices: bool | None = False,
) -> PackedBatch:
    """Pack a batch of any accepted form; InputError names the row, the value and the limit it breaks.

    A mapping holds padded integer arrays [B, T]; a missing attention_mask is guessed from the pad id. In a
    list of token-id lists every id counts, none is taken for padding. A list of strings or (str, str) pairs
    goes through ``encoder``; one string is a batch of one. ``truncate`` cuts padded columns, ids or texts
    beyond the model's longest sequence; without it they are an error. With ``choices`` every form has one
    level more, [B, C, T], and row ``b * C + c`` of the result is choice c of question b; None = as the
    arrays are.
    """
    if choices or (choices is None and _has_choices(batch)):
        return _pack_choices(batch, limits, encoder, truncate)
    if isinstance(batch, Mapping):
        return pack_padded(batch, limits, truncate)
    if isinstance(batch, str):
        batch = [batch]
    return _pack_list(_non_empty(batch, _FORMS), limits, encoder, truncate)


def _has_choices(batch: object) -> bool:
    if not isinstance(batch, Mapping) or batch.get("input_ids") is None:
        return False
    try:
        return np.ndim(batch["input_ids"]) == 3
    except ValueError:  # a ragged list; whoever packs it says so
        return False


def _pack_choices(batch: object, limits: ModelLimits, encoder: Encoder | None, truncate: bool) -> PackedBatch:
    if isinstance(batch, Mapping):
        ids = batch.get("input_ids")
        count = max(1, np.shape(ids)[1]) if ids is not None and _has_choices(batch) else 1
        pack_rows = partial(pack_padded, batch, limits, truncate, choices=True)
    else:
        questions = _non_empty(batch, _CHOICE_FORMS)
        rows = _rows_of_choices(questions)
        count = len(rows) // len(questions)
        pack_rows = partial(_pack_list, rows, limits, encoder, truncate)
    try:
        return replace(pack_rows(), choices=count)
    except InputError as error:
        # Rows were counted through all questions; the caller knows questions and their choices.
        raise InputError(re.sub(r"^row (\d+)", partial(_choice_name, count), str(error))) from None


def _choice_name(count: int, match: re.Match[str]) -> str:
    row, choice = divmod(int(match[1]), count)
    return f"row {row}, choice {choice}"


def _rows_of_choices(questions: Sequence[Any]) -> list[Any]:
    """All choices of all questions one after another."""
    for row, choices in enumerate(questions):
        if isinstance(choices, str | bytes | Mapping) or not isinstance(choices, Sequence | np.ndarray):
            raise InputError(f"row {row} is {_kind(choices)}; a batch for multiple choice is {_CHOICE_FORMS}")
        if len(choices) != len(questions[0]):
            raise InputError(
                f"row {row} has {len(choices)} choices, row 0 has {len(questions[0])}; one batch needs the "
                "same number in every row"
            )
        if not len(choices):
            raise InputError(f"row {row} has no choices; give at least one")
        for choice in choices:
            if isinstance(choice, str | int | np.integer):
                raise InputError(
                    f"row {row} holds a choice {_kind(choice)}; a batch for multiple choice is "
                    f"{_CHOICE_FORMS}"
                )
    return [choice for choices in questions for choice in choices]


def _non_empty(batch: object, forms: str) -> Sequence[Any]:
    if isinstance(batch, str | bytes | bytearray) or not isinstance(batch, Sequence):
        what = f"an array of shape {batch.shape}" if isinstance(batch, np.ndarray) else type(batch).__name__
        raise InputError(f"a batch is {forms}, not {what}; padded ids go in as {{'input_ids': array}}")
    if not batch:
        raise InputError("the batch has no rows; give at least one")
    return batch


def _pack_list(
    batch: Sequence[Any], limits: ModelLimits, encoder: Encoder | None, truncate: bool
) -> PackedBatch:
    if any(isinstance(row, int | np.integer) for row in batch):
        raise InputError("the batch is a flat list of ids; wrap one sequence in a list: [[2, 13, 3]]")
    if any(_is_text(row) for row in batch):
        return _pack_texts(batch, limits, encoder, truncate)
    return _pack_ragged(batch, None, limits, truncate)


def _pack_texts(
    batch: Sequence[Any], limits: ModelLimits, encoder: Encoder | None, truncate: bool
) -> PackedBatch:
    if isinstance(batch, tuple) and len(batch) == 2 and all(isinstance(part, str) for part in batch):
        raise InputError(
            "a tuple of two strings is ambiguous; write [(a, b)] for a pair, [a, b] for two texts"
        )
    for row, text in enumerate(batch):
        if not _is_text(text):
            raise InputError(
                f"row {row} is {_kind(text)}, others are texts; a text row is a string or a pair of strings"
            )
        if not all(part.strip() for part in ([text] if isinstance(text, str) else text)):
            raise InputError(f"row {row} is an empty text; leave it out")
    if encoder is None:
        raise InputError(NO_TOKENIZER)
    ids, types = encoder([text if isinstance(text, str) else tuple(text) for text in batch], truncate)
    # The encoder has truncated if asked to; cutting here would lose the final [SEP].
    return _pack_ragged(ids, types, limits, truncate=False)


def pack_rows(
    ids: Sequence[Any], types: Sequence[Any], limits: ModelLimits, *, choices: int | None = None
) -> PackedBatch:
    """Pack rows of token ids and token types that a tokenizer made; ``choices``: see PackedBatch."""
    return replace(_pack_ragged(ids, types, limits, truncate=False), choices=choices)


def _pack_ragged(
    rows: Sequence[Any], types: Sequence[Any] | None, limits: ModelLimits, truncate: bool
) -> PackedBatch:
    longest = limits.max_position_embeddings
    arrays = [_ragged_row(row, values) for row, values in enumerate(rows)]
    if truncate and longest is not None:
        arrays = [array[:longest] for array in arrays]
    counts = np.fromiter(map(len, arrays), np.int64, len(arrays))
    width = int(counts.max())
    if longest is not None and width > longest:
        row = int((counts > longest).argmax())
        raise too_long(f"row {row}", int(counts[row]), longest)
    row_starts = starts(counts)
    flat_types = None
    if types is not None:
        flat_types = np.concatenate(
            [np.asarray(row[:count]) for row, count in zip(types, counts, strict=True)]
        )

    def locate(index: int) -> tuple[int, int]:
        row = int(np.searchsorted(row_starts, index, side="right")) - 1
        return row, index - int(row_starts[row])

    ids = np.concatenate(arrays)
    positions = np.arange(len(ids), dtype=np.int32) - np.repeat(row_starts[:-1], counts)
    return PackedBatch(
        validate_ids("input_ids", ids, limits.vocab_size, locate),
        positions,
        validate_types(flat_types, len(ids), limits, locate),
        row_starts,
        np.zeros(len(arrays), np.int32),
        (len(arrays), width),
    )


def _ragged_row(row: int, values: object) -> NDArray[np.integer[Any]]:
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Sequence | np.ndarray):
        raise InputError(f"row {row} is {_kind(values)}; a batch is {_FORMS}")
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, OverflowError):
        array = np.empty((0, 0))
    if array.ndim != 1:
        raise InputError(f"row {row} is not a flat list of token ids; a batch is {_FORMS}")
    if not array.size:
        raise InputError(f"row {row} has no tokens; every row needs at least one")
    if array.dtype.kind not in "iu":
        raise InputError(f"row {row} must hold integers, not {dtype(array)}")
    return array


def _is_text(row: object) -> bool:
    if isinstance(row, str):
        return True
    return isinstance(row, tuple | list) and len(row) == 2 and all(isinstance(part, str) for part in row)


def _kind(value: object) -> str:
    return f"of type {type(value).__name__}"
