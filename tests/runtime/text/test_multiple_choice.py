"""Multiple choice: batches of [batch, choices, sequence] in every form, and what is wrong with others."""

import numpy as np
import pytest

from albert_runtime import InputError, Predictor
from albert_runtime.batch.pack import pack
from albert_runtime.batch.packed import ModelLimits

LIMITS = ModelLimits(vocab_size=50, type_vocab_size=2, max_position_embeddings=10)
IDS = np.array([[[5, 6, 7], [8, 9, 0]], [[1, 0, 0], [2, 3, 4]]])


@pytest.fixture
def predictor(make_artifact, tokenizer_file):
    return Predictor(make_artifact(task="multiple-choice", tokenizer=tokenizer_file))


def test_arrays_and_lists(predictor):
    padded = predictor.run({"input_ids": IDS, "attention_mask": IDS != 0, "token_type_ids": IDS * 0})
    assert padded["logits"].shape == (2, 2)
    for batch in (
        {"input_ids": IDS},
        {"input_ids": IDS.tolist()},
        [[[5, 6, 7], [8, 9]], [[1], [2, 3, 4]]],
        [([5, 6, 7], np.array([8, 9])), [[1], (2, 3, 4)]],
    ):
        np.testing.assert_array_equal(predictor.run(batch)["logits"], padded["logits"])


def test_texts(predictor):
    ids = np.array([[[2, 5, 3, 6, 3, 0], [2, 5, 3, 7, 6, 3]]])
    types = np.array([[[0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1]]])
    expected = predictor.run({"input_ids": ids, "token_type_ids": types})["logits"]
    for choices in ([("a", "b"), ("a", "c b")], [["a", "b"], ["a", "c b"]]):
        np.testing.assert_array_equal(predictor.run([choices])["logits"], expected)


def test_packed_rows_keep_questions_together():
    packed = pack({"input_ids": IDS}, LIMITS, choices=True)
    assert packed.choices == 2
    assert packed.shape == (4, 3)
    assert packed.rows(2, 4).choices == 2
    assert pack({"input_ids": IDS}, LIMITS, choices=None).choices == 2
    assert pack({"input_ids": IDS[0]}, LIMITS, choices=None).choices is None
    assert pack([[1, 2]], LIMITS, choices=None).choices is None


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (
            {"input_ids": IDS[0]},
            r"input_ids must be 3-dimensional \[batch, choices, sequence\], not \(2, 3\)",
        ),
        ({"input_ids": [[[1], [2, 3]]]}, r"input_ids is not a padded \[batch, choices, sequence\] array"),
        ({"input_ids": IDS[:, :0]}, r"input_ids has shape \(2, 0, 3\); at least one"),
        ({}, "the batch has no input_ids"),
        (
            {"input_ids": IDS, "attention_mask": IDS[:, :1] != 0},
            r"attention_mask has shape \(2, 1, 3\), input_ids has \(2, 2, 3\)",
        ),
        (
            {"input_ids": IDS, "attention_mask": np.where(IDS == 9, 2, 1)},
            "row 0, choice 1, column 1: attention_mask holds 2; only 0 and 1",
        ),
        ({"input_ids": IDS, "attention_mask": IDS > 1}, "row 1, choice 0 has no unmasked token"),
        ({"input_ids": np.where(IDS == 3, 70, IDS)}, "row 1, choice 1, column 1: input_ids holds 70"),
        ({"input_ids": np.ones((2, 2, 11), int)}, "row 0, choice 0 is 11 tokens long"),
        ([[[1], [2]], [[3]]], "row 1 has 1 choices, row 0 has 2; one batch needs the same number"),
        ([[], []], "row 0 has no choices; give at least one"),
        ([[[1], []]], "row 0, choice 1 has no tokens"),
        ([[[1], [5] * 11]], "row 0, choice 1 is 11 tokens long"),
        ([[1, 2]], "row 0 holds a choice of type int; a batch for multiple choice is"),
        ([("a", "b")], "row 0 holds a choice of type str; .* or .prompt, choice. pairs"),
        (["a"], "row 0 is of type str; a batch for multiple choice is"),
        ([3], "row 0 is of type int"),
        ("a", "with, for every question, the list of its choices.*, not str"),
        (IDS, r"not an array of shape \(2, 2, 3\); padded ids go in as"),
        ([], "the batch has no rows"),
        ([[("a", "b"), ("a", " ")]], "row 0, choice 1 is an empty text"),
        ([[("a", "b"), [1, 2]]], "row 0, choice 1 is of type list, others are texts"),
        ([[("a", "b")], [("a", "\ud800")]], "row 1, choice 0 is no valid Unicode"),
    ],
)
def test_what_is_wrong_is_named_by_question_and_choice(predictor, batch, message):
    with pytest.raises(InputError, match=message):
        predictor.run(batch)


def test_truncate(predictor):
    long = [[[5] * 20, [6]], [[7], [8]]]
    short = [[[5] * 10, [6]], [[7], [8]]]
    np.testing.assert_array_equal(
        predictor.run(long, truncate=True)["logits"], predictor.run(short)["logits"]
    )


def test_other_tasks_take_no_choices(make_artifact):
    with pytest.raises(InputError, match=r"input_ids must be 2-dimensional \[batch, sequence\]"):
        Predictor(make_artifact()).run({"input_ids": IDS})
