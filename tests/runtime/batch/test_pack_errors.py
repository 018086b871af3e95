"""pack: every way a batch may be wrong is an InputError that names it."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from albert_runtime.batch.pack import pack
from albert_runtime.batch.packed import ModelLimits
from albert_runtime.errors import AlbertError, InputError

LIMITS = ModelLimits(vocab_size=50, type_vocab_size=2, max_position_embeddings=10, pad_token_id=0)
UNKNOWN = ModelLimits()

BAD = {
    "id too large": (
        {"input_ids": [[1, 2, 3], [4, 50, 6]]},
        "row 1, column 1: input_ids holds 50, allowed are 0 to 49",
    ),
    "id negative": ({"input_ids": [[1, 2, -100]]}, "row 0, column 2: input_ids holds -100"),
    "id too large behind a hole": (
        {"input_ids": [[1, 2, 3], [4, 99, 60]], "attention_mask": [[1, 1, 1], [1, 0, 1]]},
        "row 1, column 2: input_ids holds 60",
    ),
    "id at masked position 0": (
        {"input_ids": [[77, 2]], "attention_mask": [[0, 1]]},
        "row 0, column 0: input_ids holds 77",
    ),
    "id of 64 bits": (
        {"input_ids": np.array([[2**63 + 5]], np.uint64)},
        f"column 0: input_ids holds {2**63 + 5}",
    ),
    "id beyond 64 bits": (
        {"input_ids": [[2**70]]},
        "input_ids must hold integers, not integers beyond 64 bits",
    ),
    "type": (
        {"input_ids": [[1, 2]], "token_type_ids": [[0, 2]]},
        "row 0, column 1: token_type_ids holds 2, allowed are 0 to 1 of the model's token types",
    ),
    "ragged id": ([[1], [2, 3, 50]], "row 1, column 2: input_ids holds 50"),
    "unknown key": (
        {"input_ids": [[1]], "position_ids": [[0]]},
        "unknown key 'position_ids'; known are input_ids",
    ),
    "no ids": ({"attention_mask": [[1]]}, "the batch has no input_ids"),
    "rank 1": (
        {"input_ids": [1, 2]},
        r"input_ids must be 2-dimensional \[batch, sequence\], not \(2,\); wrap",
    ),
    "rank 3": ({"input_ids": [[[1]]]}, r"not \(1, 1, 1\)"),
    "rank 0": ({"input_ids": 3}, r"not \(\)"),
    "uneven lists": (
        {"input_ids": [[1, 2], [3]]},
        "pad its rows to one length, or pass token ids as a list of lists",
    ),
    "float ids": ({"input_ids": [[1.0, 2.0]]}, "input_ids must hold integers, not float64"),
    "bool ids": ({"input_ids": [[True]]}, "input_ids must hold integers, not bool"),
    "string ids": ({"input_ids": [["a"]]}, "input_ids must hold integers, not <U1"),
    "float types": ({"input_ids": [[1]], "token_type_ids": [[0.0]]}, "token_type_ids must hold integers"),
    "shape of mask": (
        {"input_ids": [[1, 2]], "attention_mask": [[1]]},
        r"attention_mask has shape \(1, 1\), input_ids has \(1, 2\)",
    ),
    "shape of types": ({"input_ids": [[1, 2]], "token_type_ids": [[1, 1], [0, 0]]}, "they must be equal"),
    "mask of 4 dimensions": (
        {"input_ids": [[1]], "attention_mask": [[[[1]]]]},
        "attention_mask must be 2-dim",
    ),
    "mask of 2": (
        {"input_ids": [[1, 2]], "attention_mask": [[1, 2]]},
        "row 0, column 1: attention_mask holds 2; only 0 and 1 are allowed",
    ),
    "mask of NaN": (
        {"input_ids": [[1, 2], [3, 4]], "attention_mask": [[1, 1], [float("nan"), 1]]},
        "row 1, column 0: attention_mask holds nan",
    ),
    "mask of -10000": ({"input_ids": [[1]], "attention_mask": [[-10000.0]]}, "holds -10000.0"),
    "mask of strings": (
        {"input_ids": [[1]], "attention_mask": [["1"]]},
        "attention_mask must hold 0 and 1, not <U1",
    ),
    "complex mask": ({"input_ids": [[1]], "attention_mask": [[1j]]}, "must hold 0 and 1, not complex128"),
    "masked row": ({"input_ids": [[1], [2]], "attention_mask": [[1], [0]]}, "row 1 has no unmasked token"),
    "row of padding": ({"input_ids": [[1, 2], [0, 0]]}, "row 1 has no unmasked token; every row needs"),
    "empty ragged row": ([[1], []], "row 1 has no tokens"),
    "no rows": ([], "the batch has no rows"),
    "no padded rows": (
        {"input_ids": np.zeros((0, 4), int)},
        r"input_ids has shape \(0, 4\); at least one row",
    ),
    "no columns": ({"input_ids": [[], []]}, r"input_ids has shape \(2, 0\)"),
    "flat ids": ([1, 2, 3], r"flat list of ids; wrap one sequence in a list"),
    "array": (
        np.ones((2, 3), int),
        r"not an array of shape \(2, 3\); padded ids go in as {'input_ids': array}",
    ),
    "None": (None, "a batch is a dict .* not NoneType"),
    "bytes": (b"text", "not bytes"),
    "set": ({1, 2}, "not set"),
    "floats in a row": ([[1.5]], "row 0 must hold integers, not float64"),
    "list in a row": ([[1], [[2]]], "row 1 is not a flat list of token ids"),
    "uneven list in a row": ([[1, [2, 3]]], "row 0 is not a flat list of token ids"),
    "None as a row": ([[1], None], "row 1 is of type NoneType"),
    "mapping as a row": ([{"input_ids": [1]}], "row 0 is of type dict"),
    "long ragged row": (
        [[1], [1] * 11],
        "row 1 is 11 tokens long, max_position_embeddings is 10; .* set truncate",
    ),
    "long padded row": ({"input_ids": [[1] * 9 + [0] * 3, [1] * 11 + [0]]}, "row 1 is 11 tokens long"),
    "text": (["hello"], "texts need a tokenizer and this artifact has none; pass token ids"),
    "one text": ("hello", "texts need a tokenizer"),
    "text among ids": ([[1, 2], "hello"], "row 0 is of type list, others are texts"),
    "tuple of two texts": (("a", "b"), r"ambiguous; write \[\(a, b\)\] for a pair, \[a, b\] for two texts"),
    "triple": ([("a", "b", "c")], "row 0 must hold integers, not <U1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_batches(name):
    batch, message = BAD[name]
    with pytest.raises(InputError, match=message) as caught:
        pack(batch, LIMITS)
    assert "\n" not in str(caught.value)


def test_truncation_that_leaves_nothing_is_an_error():
    ids = np.zeros((2, 12), int)
    ids[0, :3] = ids[1, 10:] = 5
    with pytest.raises(InputError, match="row 1 has no unmasked token within the first 10 columns"):
        pack({"input_ids": ids}, LIMITS, truncate=True)


class OnAnotherDevice:
    """An array that numpy cannot read, as tensors on a GPU are."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


def test_an_unreadable_array():
    with pytest.raises(InputError, match="input_ids is not a padded"):
        pack({"input_ids": OnAnotherDevice()}, LIMITS)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3), inner)
    ),
)
odd_arrays = arrays(
    st.sampled_from([np.int8, np.uint64, np.float16, np.bool_, np.complex64, object]),
    array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
values = junk | odd_arrays


@given(
    values
    | st.fixed_dictionaries(
        {"input_ids": values}, optional={"attention_mask": values, "token_type_ids": values}
    )
)
def test_only_input_errors_escape(batch):
    for limits in (LIMITS, UNKNOWN):
        for truncate in (False, True):
            try:
                packed = pack(batch, limits, truncate=truncate)
            except AlbertError as error:
                assert isinstance(error, InputError)
                assert "\n" not in str(error)
            else:
                assert packed.tokens > 0
