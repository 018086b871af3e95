"""From the forms a caller may pass (padded arrays, token-id lists, texts) to a PackedBatch, or an InputError.

Checks are vectorised; the row and column of an offender are searched only once a check has failed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .batch import Int32, Limits, PackedBatch
from .errors import InputError

# Texts or pairs and truncate -> (token ids, token type ids) of each row.
Encoder = Callable[[Sequence[Any], bool], tuple[list[list[int]], list[list[int]]]]

KEYS = ("input_ids", "attention_mask", "token_type_ids")
_FORMS = (
    "a dict of padded [batch, sequence] arrays, a list of token-id lists, or a list of texts or text pairs"
)


def pack(
    batch: object, limits: Limits, *, encoder: Encoder | None = None, truncate: bool = False
) -> PackedBatch:
    """Pack a batch of any accepted form; InputError names the row, the value and the limit it breaks.

    A mapping holds padded integer arrays [B, T]; a missing attention_mask is derived from the pad id. In a
    list of token-id lists every id counts, none is taken for padding. A list of strings or (str, str) pairs
    goes through ``encoder``; one string is a batch of one. ``truncate`` cuts padded columns, ids or texts
    beyond the model's longest sequence; without it they are an error.
    """
    if isinstance(batch, Mapping):
        return _pack_padded(batch, limits, truncate)
    if isinstance(batch, str):
        batch = [batch]
    if isinstance(batch, bytes | bytearray) or not isinstance(batch, Sequence):
        what = f"an array of shape {batch.shape}" if isinstance(batch, np.ndarray) else type(batch).__name__
        raise InputError(f"a batch is {_FORMS}, not {what}; padded ids go in as {{'input_ids': array}}")
    if not batch:
        raise InputError("the batch has no rows; give at least one")
    if any(isinstance(row, int | np.integer) for row in batch):
        raise InputError("the batch is a flat list of ids; wrap one sequence in a list: [[2, 13, 3]]")
    if any(_is_text(row) for row in batch):
        return _pack_texts(batch, limits, encoder, truncate)
    return _pack_ragged(batch, None, limits, truncate)


def _pack_padded(batch: Mapping[Any, Any], limits: Limits, truncate: bool) -> PackedBatch:
    for key in batch:
        if key not in KEYS:
            raise InputError(f"the batch has an unknown key {key!r}; known are {', '.join(KEYS)}")
    if batch.get("input_ids") is None:
        raise InputError("the batch has no input_ids; give {'input_ids': [[...]]}")
    ids = _padded_ints("input_ids", batch["input_ids"], None)
    if batch.get("attention_mask") is None:
        mask = ids != limits.pad_token_id
    else:
        mask = _mask(batch["attention_mask"], ids.shape)
    types = None
    if batch.get("token_type_ids") is not None:
        types = _padded_ints("token_type_ids", batch["token_type_ids"], ids.shape)

    longest = limits.max_position_embeddings
    cut = longest is not None and ids.shape[1] > longest
    if cut and truncate:
        ids, mask = ids[:, :longest], mask[:, :longest]
        types = None if types is None else types[:, :longest]
    elif cut and mask[:, longest:].any():
        row = int(mask[:, longest:].any(axis=1).argmax())
        length = ids.shape[1] - int(mask[row, ::-1].argmax())
        raise _too_long(row, length, longest)

    rows, width = ids.shape
    kept = mask
    if mask.all():
        counts = np.full(rows, width)
        flat_ids, flat_types = ids.reshape(-1), None if types is None else types.reshape(-1)
        positions = np.tile(np.arange(width, dtype=np.int32), rows)
    else:
        empty = ~mask.any(axis=1)
        if empty.any():
            end = f" within the first {longest} columns that truncate=True keeps" if cut and truncate else ""
            raise InputError(
                f"row {int(empty.argmax())} has no unmasked token{end}; every row needs at least one"
            )
        kept = mask.copy()
        kept[:, 0] = True  # computed even where masked: the pooler reads position 0
        counts = kept.sum(axis=1)
        where = np.flatnonzero(kept)
        flat_ids, flat_types = ids.reshape(-1)[where], None if types is None else types.reshape(-1)[where]
        positions = (where % width).astype(np.int32)

    def locate(index: int) -> tuple[int, int]:
        row, column = np.argwhere(kept)[index].tolist()
        return row, column

    return PackedBatch(
        _checked("input_ids", flat_ids, limits.vocab_size, locate),
        positions,
        _checked_types(flat_types, len(flat_ids), limits, locate),
        _starts(counts),
        (~mask[:, 0]).astype(np.int32),
        (rows, width),
    )


def _pack_texts(batch: Sequence[Any], limits: Limits, encoder: Encoder | None, truncate: bool) -> PackedBatch:
    if isinstance(batch, tuple) and len(batch) == 2 and all(isinstance(part, str) for part in batch):
        raise InputError(
            "a tuple of two strings is ambiguous; write [(a, b)] for a pair, [a, b] for two texts"
        )
    for row, text in enumerate(batch):
        if not _is_text(text):
            raise InputError(
                f"row {row} is {_kind(text)}, others are texts; a text row is a string or a pair of strings"
            )
    if encoder is None:
        raise InputError(
            "texts need a tokenizer and this artifact has none; pass token ids, or "
            "export again from a model that brings its tokenizer"
        )
    ids, types = encoder([text if isinstance(text, str) else tuple(text) for text in batch], truncate)
    # The encoder has truncated if asked to; cutting here would lose the final [SEP].
    return _pack_ragged(ids, types, limits, truncate=False)


def _pack_ragged(
    rows: Sequence[Any], types: Sequence[Any] | None, limits: Limits, truncate: bool
) -> PackedBatch:
    longest = limits.max_position_embeddings
    arrays = [_ragged_row(row, values) for row, values in enumerate(rows)]
    if truncate and longest is not None:
        arrays = [array[:longest] for array in arrays]
    counts = np.fromiter(map(len, arrays), np.int64, len(arrays))
    width = int(counts.max())
    if longest is not None and width > longest:
        row = int((counts > longest).argmax())
        raise _too_long(row, int(counts[row]), longest)
    starts = _starts(counts)
    flat_types = None
    if types is not None:
        flat_types = np.concatenate(
            [np.asarray(row[:count]) for row, count in zip(types, counts, strict=True)]
        )

    def locate(index: int) -> tuple[int, int]:
        row = int(np.searchsorted(starts, index, side="right")) - 1
        return row, index - int(starts[row])

    ids = np.concatenate(arrays)
    positions = np.arange(len(ids), dtype=np.int32) - np.repeat(starts[:-1], counts)
    return PackedBatch(
        _checked("input_ids", ids, limits.vocab_size, locate),
        positions,
        _checked_types(flat_types, len(ids), limits, locate),
        starts,
        np.zeros(len(arrays), np.int32),
        (len(arrays), width),
    )


def _padded_ints(name: str, value: object, shape: tuple[int, ...] | None) -> NDArray[np.integer[Any]]:
    array = _padded(name, value, shape)
    if array.dtype.kind not in "iu":
        raise InputError(f"{name} must hold integers, not {_dtype(array)}")
    return array


def _mask(value: object, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    array = _padded("attention_mask", value, shape)
    if array.dtype.kind == "b":
        return array
    if array.dtype.kind not in "iuf":
        raise InputError(f"attention_mask must hold 0 and 1, not {_dtype(array)}")
    ones: NDArray[np.bool_] = array == 1
    good = ones | (array == 0)
    if not good.all():
        row, column = (int(at[0]) for at in np.nonzero(~good))
        raise InputError(
            f"row {row}, column {column}: attention_mask holds {array[row, column].item()}; "
            "only 0 and 1 are allowed"
        )
    return ones


def _padded(name: str, value: object, shape: tuple[int, ...] | None) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except (
        ValueError,
        TypeError,
        OverflowError,
        RuntimeError,
    ):  # ragged lists; tensors that are not on the CPU
        raise InputError(
            f"{name} is not a padded [batch, sequence] array; pad its rows to one length, "
            "or pass token ids as a list of lists"
        ) from None
    if array.ndim != 2:
        hint = "; wrap one sequence in a list" if array.ndim == 1 else ""
        raise InputError(f"{name} must be 2-dimensional [batch, sequence], not {array.shape}{hint}")
    if not array.size:
        raise InputError(f"{name} has shape {array.shape}; at least one row and one column are needed")
    if shape is not None and array.shape != shape:
        raise InputError(f"{name} has shape {array.shape}, input_ids has {shape}; they must be equal")
    return array


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
        raise InputError(f"row {row} must hold integers, not {_dtype(array)}")
    return array


def _checked(
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


def _checked_types(
    types: NDArray[Any] | None, count: int, limits: Limits, locate: Callable[[int], tuple[int, int]]
) -> Int32:
    if types is None:
        return np.zeros(count, np.int32)
    return _checked("token_type_ids", types, limits.type_vocab_size, locate)


def _starts(counts: NDArray[Any]) -> Int32:
    starts = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    if starts[-1] >= 2**31:
        raise InputError(f"the batch has {int(starts[-1])} tokens, more than 2147483647; split it")
    return starts.astype(np.int32)


def _is_text(row: object) -> bool:
    if isinstance(row, str):
        return True
    return isinstance(row, tuple | list) and len(row) == 2 and all(isinstance(part, str) for part in row)


def _too_long(row: int, length: int, longest: int | None) -> InputError:
    return InputError(
        f"row {row} is {length} tokens long, max_position_embeddings is {longest}; "
        "shorten it or pass truncate=True"
    )


def _kind(value: object) -> str:
    return f"of type {type(value).__name__}"


def _dtype(array: NDArray[Any]) -> str:
    return "integers beyond 64 bits or mixed types" if array.dtype.kind == "O" else str(array.dtype)
