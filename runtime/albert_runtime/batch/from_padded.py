"""From a mapping of padded integer arrays to a PackedBatch, or an InputError."""

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact.tasks import INPUTS
from ..errors import InputError
from .checks import dtype, starts, too_long, validate_ids, validate_types
from .packed import ModelLimits, PackedBatch

_log = logging.getLogger("albert_runtime")


def pack_padded(
    batch: Mapping[Any, Any], limits: ModelLimits, truncate: bool, *, choices: bool = False
) -> PackedBatch:
    """Pack arrays [B, T], or with ``choices`` [B, C, T], whose B * C rows follow one another."""
    for key in batch:
        if key not in INPUTS:
            raise InputError(f"the batch has an unknown key {key!r}; known are {', '.join(INPUTS)}")
    if batch.get("input_ids") is None:
        raise InputError("the batch has no input_ids; give {'input_ids': [[...]]}")
    ids = _padded_ints("input_ids", batch["input_ids"], choices)
    if batch.get("attention_mask") is None:
        mask = _guess_mask(ids, limits.pad_token_id)
    else:
        mask = _mask(batch["attention_mask"], choices, ids.shape)
    types = None
    if batch.get("token_type_ids") is not None:
        types = _padded_ints("token_type_ids", batch["token_type_ids"], choices, ids.shape)
    if choices:
        ids, mask = ids.reshape(-1, ids.shape[-1]), mask.reshape(-1, ids.shape[-1])
        types = None if types is None else types.reshape(-1, ids.shape[-1])

    longest = limits.max_position_embeddings
    cut = longest is not None and ids.shape[1] > longest
    if cut and truncate:
        ids, mask = ids[:, :longest], mask[:, :longest]
        types = None if types is None else types[:, :longest]
    elif cut and mask[:, longest:].any():
        row = int(mask[:, longest:].any(axis=1).argmax())
        length = ids.shape[1] - int(mask[row, ::-1].argmax())
        raise too_long(f"row {row}", length, longest)

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
        validate_ids("input_ids", flat_ids, limits.vocab_size, locate),
        positions,
        validate_types(flat_types, len(flat_ids), limits, locate),
        starts(counts),
        (~mask[:, 0]).astype(np.int32),
        (rows, width),
    )


def _guess_mask(ids: NDArray[np.integer[Any]], pad: int) -> NDArray[np.bool_]:
    """The mask of rows [..., T] that came without one.

    Pad ids that stand together at one end of a row, and nowhere else in it, are its padding. A row that also
    holds the pad id elsewhere uses it as a token, as models of phonemes do: then all of it counts, as in a
    list of ids, or in transformers without a mask. No row's mask depends on another row.
    """
    mask: NDArray[np.bool_] = np.ascontiguousarray(ids != pad)
    rows = mask.reshape(-1, mask.shape[-1])
    masked = rows.shape[-1] - rows.sum(axis=1)
    at_start, at_end = rows.argmax(axis=1), rows[:, ::-1].argmax(axis=1)
    token = (masked != at_start) & (masked != at_end) & rows.any(axis=1)
    if token.any():
        _warn_of_guess(pad)
        rows[token] = True
    return mask


@cache
def _warn_of_guess(pad: int) -> None:
    """Once for each pad id: the caller's next batch is likely to be the same case."""
    _log.warning(
        "a batch without attention_mask has rows that hold the pad id %d elsewhere than at one end; "
        "all their tokens count; give attention_mask if some are padding",
        pad,
    )


def _padded_ints(
    name: str, value: object, choices: bool, shape: tuple[int, ...] | None = None
) -> NDArray[np.integer[Any]]:
    array = _padded(name, value, choices, shape)
    if array.dtype.kind not in "iu":
        raise InputError(f"{name} must hold integers, not {dtype(array)}")
    return array


def _mask(value: object, choices: bool, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    array = _padded("attention_mask", value, choices, shape)
    if array.dtype.kind == "b":
        return array
    if array.dtype.kind not in "iuf":
        raise InputError(f"attention_mask must hold 0 and 1, not {dtype(array)}")
    ones: NDArray[np.bool_] = array == 1
    good = ones | (array == 0)
    if not good.all():
        flat = array.reshape(-1, array.shape[-1])
        row, column = np.argwhere(~good.reshape(flat.shape))[0].tolist()
        raise InputError(
            f"row {row}, column {column}: attention_mask holds {flat[row, column].item()}; "
            "only 0 and 1 are allowed"
        )
    return ones


def _padded(name: str, value: object, choices: bool, shape: tuple[int, ...] | None) -> NDArray[Any]:
    form = "[batch, choices, sequence]" if choices else "[batch, sequence]"
    dimensions = 3 if choices else 2
    try:
        array = np.asarray(value)
    except (
        ValueError,
        TypeError,
        OverflowError,
        RuntimeError,
    ):  # ragged lists; tensors that are not on the CPU
        raise InputError(
            f"{name} is not a padded {form} array; pad its rows to one length, "
            "or pass token ids as a list of lists"
        ) from None
    if array.ndim != dimensions:
        hint = "; wrap one sequence in a list" if array.ndim == 1 else ""
        raise InputError(f"{name} must be {dimensions}-dimensional {form}, not {array.shape}{hint}")
    if not array.size:
        raise InputError(f"{name} has shape {array.shape}; at least one row and one column are needed")
    if shape is not None and array.shape != shape:
        raise InputError(f"{name} has shape {array.shape}, input_ids has {shape}; they must be equal")
    return array
