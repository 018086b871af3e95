"""pack and PackedBatch: every form a batch may have."""

from collections import UserDict

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from albert_runtime.batch import from_padded
from albert_runtime.batch.pack import pack
from albert_runtime.batch.packed import ModelLimits

LIMITS = ModelLimits(vocab_size=50, type_vocab_size=2, max_position_embeddings=10, pad_token_id=0)
UNKNOWN = ModelLimits()


@st.composite
def padded_batches(draw):
    """(ids, mask, types) with any 0/1 mask that leaves no row empty; under the mask lies anything."""
    shape = (draw(st.integers(1, 5)), draw(st.integers(1, 10)))
    mask = draw(arrays(np.bool_, shape))
    rows = np.arange(shape[0])
    mask[rows, draw(arrays(np.int64, shape[0], elements=st.integers(0, shape[1] - 1)))] = True
    kept = mask.copy()
    kept[:, 0] = True
    junk = st.integers(-(2**40), 2**40)
    ids = np.where(
        kept,
        draw(arrays(np.int64, shape, elements=st.integers(0, 49))),
        draw(arrays(np.int64, shape, elements=junk)),
    )
    types = np.where(kept, draw(arrays(np.int64, shape, elements=st.integers(0, 1))), -7)
    return ids, mask, types


@given(padded_batches(), st.sampled_from([np.int64, np.uint8, np.bool_, np.float32, list]))
def test_padded_round_trip(batch, mask_form):
    ids, mask, types = batch
    given_mask = mask.tolist() if mask_form is list else mask.astype(mask_form)
    packed = pack({"input_ids": ids, "attention_mask": given_mask, "token_type_ids": types}, LIMITS)
    kept = mask.copy()
    kept[:, 0] = True
    assert packed.shape == ids.shape
    assert packed.tokens == kept.sum() == packed.row_starts[-1]
    assert packed.width == np.nonzero(kept)[1].max() + 1
    np.testing.assert_array_equal(packed.masked_first, ~mask[:, 0])
    np.testing.assert_array_equal(np.diff(packed.row_starts), kept.sum(axis=1))
    np.testing.assert_array_equal(packed.positions, np.nonzero(kept)[1])
    for array in (
        packed.input_ids,
        packed.positions,
        packed.token_type_ids,
        packed.row_starts,
        packed.masked_first,
    ):
        assert array.dtype == np.int32
        assert array.flags.c_contiguous
    for width in (None, packed.width):
        back_ids, back_mask, back_types = packed.to_padded(width)
        columns = slice(0, width)
        np.testing.assert_array_equal(back_mask, mask[:, columns])
        np.testing.assert_array_equal(back_ids, np.where(kept, ids, 0)[:, columns])
        np.testing.assert_array_equal(back_types, np.where(kept, types, 0)[:, columns])


@given(padded_batches(), st.data())
def test_a_range_of_rows_is_the_batch_of_those_rows(batch, data):
    ids, mask, types = batch
    start = data.draw(st.integers(0, len(ids) - 1))
    stop = data.draw(st.integers(start + 1, len(ids)))
    part = pack({"input_ids": ids, "attention_mask": mask, "token_type_ids": types}, LIMITS).rows(start, stop)
    rows = slice(start, stop)
    alone = pack(
        {"input_ids": ids[rows], "attention_mask": mask[rows], "token_type_ids": types[rows]}, LIMITS
    )
    assert part.shape == alone.shape
    for name in ("input_ids", "positions", "token_type_ids", "row_starts", "masked_first"):
        np.testing.assert_array_equal(getattr(part, name), getattr(alone, name))


@given(st.lists(st.lists(st.integers(0, 49), min_size=1, max_size=10), min_size=1, max_size=6))
def test_ragged_equals_padded_with_its_mask(rows):
    width = max(map(len, rows))
    ids = np.array([row + [33] * (width - len(row)) for row in rows])
    mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    padded = pack({"input_ids": ids, "attention_mask": mask}, LIMITS)
    for form in (rows, [tuple(row) for row in rows], tuple(np.array(row, np.uint16) for row in rows)):
        ragged = pack(form, LIMITS)
        assert ragged.shape == padded.shape
        for name in ("input_ids", "positions", "token_type_ids", "row_starts", "masked_first"):
            np.testing.assert_array_equal(getattr(ragged, name), getattr(padded, name))


def test_full_mask_keeps_order():
    packed = pack({"input_ids": [[5, 6, 7], [8, 9, 10]]}, LIMITS)
    assert packed.input_ids.tolist() == [5, 6, 7, 8, 9, 10]
    assert packed.positions.tolist() == [0, 1, 2, 0, 1, 2]
    assert packed.row_starts.tolist() == [0, 3, 6]
    assert [part.tolist() for part in packed.to_padded()] == [
        [[5, 6, 7], [8, 9, 10]],
        [[1, 1, 1], [1, 1, 1]],
        [[0, 0, 0], [0, 0, 0]],
    ]


@pytest.mark.parametrize("given_mask", [{}, {"attention_mask": None}])
def test_missing_mask_comes_from_the_pad_id(given_mask):
    limits = ModelLimits(50, 2, 10, pad_token_id=3)
    packed = pack({"input_ids": [[3, 3, 7, 0], [5, 6, 7, 3]], **given_mask}, limits)
    assert packed.to_padded()[1].tolist() == [[0, 0, 1, 1], [1, 1, 1, 0]]
    assert packed.input_ids.tolist() == [3, 7, 0, 5, 6, 7]  # position 0 stays, as a query nobody attends to
    assert packed.masked_first.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("row", "mask"),
    [
        ([0, 50, 60, 0], [1, 1, 1, 1]),  # PL-BERT's: its pad id ends and begins every text
        ([5, 0, 6, 0], [1, 1, 1, 1]),
        ([5, 0, 6, 7], [1, 1, 1, 1]),
        ([0, 0, 6, 0], [1, 1, 1, 1]),
        ([5, 6, 0, 0], [1, 1, 0, 0]),
        ([0, 0, 5, 6], [0, 0, 1, 1]),
        ([5, 6, 7, 8], [1, 1, 1, 1]),
    ],
)
def test_the_pad_id_is_padding_at_one_end_and_a_token_elsewhere(row, mask, caplog):
    """transformers without a mask attends to everything, and so does a list of ids: equal where mask is 1."""
    limits = ModelLimits(99, 2, 10, pad_token_id=0)
    from_padded._warn_of_guess.cache_clear()
    for neighbours in ([], [[9, 9, 9, 9]], [[9, 0, 0, 0], [0, 9, 9, 9]]):
        for _ in range(2):
            packed = pack({"input_ids": [row, *neighbours]}, limits)
            assert packed.to_padded()[1][0].tolist() == mask
        listed = pack([row], limits)
        if all(mask):
            assert packed.input_ids[:4].tolist() == listed.input_ids.tolist() == row
    pads = row.count(0)
    guess = pads and all(mask)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * bool(guess)  # once
    assert not guess or "hold the pad id 0 elsewhere than at one end" in caplog.text
    grouped = pack({"input_ids": [[row, [9, 9, 9, 9]]]}, limits, choices=True)
    assert grouped.to_padded()[1].reshape(2, 4)[0].tolist() == mask


def test_a_ragged_pad_id_is_a_token():
    assert pack([[5, 0, 0], [7]], LIMITS).input_ids.tolist() == [5, 0, 0, 7]


def test_the_result_does_not_change_with_the_callers_array():
    ids = np.array([[5, 6]], np.int32)
    packed = pack({"input_ids": ids}, LIMITS)
    ids[:] = 0
    assert packed.input_ids.tolist() == [5, 6]


def test_any_mapping_and_any_memory_layout():
    ids = np.arange(1, 41, dtype=">i4").reshape(4, 10).T[::2]
    packed = pack(UserDict(input_ids=ids), LIMITS)
    np.testing.assert_array_equal(packed.to_padded()[0], ids)


def test_masked_columns_beyond_the_last_position_are_no_error():
    ids = np.ones((2, 15), np.int64)
    mask = np.zeros((2, 15))
    mask[:, :10] = 1
    packed = pack({"input_ids": ids, "attention_mask": mask}, LIMITS)
    assert packed.shape == (2, 15)
    assert packed.width == 10


def test_truncate_cuts_columns_and_rows():
    padded = pack(
        {"input_ids": np.full((2, 15), 4), "token_type_ids": np.ones((2, 15), int)}, LIMITS, truncate=True
    )
    assert padded.shape == (2, 10)
    assert padded.token_type_ids.tolist() == [1] * 20
    ragged = pack([list(range(1, 16)), [5]], LIMITS, truncate=True)
    assert ragged.input_ids.tolist() == [*range(1, 11), 5]
    assert ragged.shape == (2, 10)


def test_unknown_limits_accept_any_id_and_length():
    packed = pack([[2**31 - 1, 7] * 400], UNKNOWN)
    assert packed.tokens == 800
