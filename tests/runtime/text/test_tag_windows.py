"""Entities of texts longer than the model's positions: in windows, each word where it has most context."""

import numpy as np
import pytest

from albert_runtime import InputError
from albert_runtime.text.tokenizer import TextEncoder

from ..scripted import answer_one, setting

LABELS = ("O", "B-PER", "I-PER")
TEXT = "Anna lives in Paris who a b Smith lives in Paris a b who Anna Smith a b who lives in Paris b"


def by_column(chosen):
    """A model whose label of a token is chosen(its column, the columns of the row, its id)."""

    def run(batch, outputs, positions=None):
        rows = []
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
            width = int(mask.sum())
            labels = [chosen(c, width, int(i)) if c < width else 0 for c, i in enumerate(ids)]
            rows.append(np.eye(len(LABELS))[labels] * 9)
        return {"logits": np.float32(rows)}

    return run


def test_the_windows_are_the_whole_text(piece_tokenizer):
    encoder = TextEncoder(piece_tokenizer.read_bytes(), 9)
    (whole,) = TextEncoder(piece_tokenizer.read_bytes(), None).encode([TEXT], False)
    tokens = list(zip(whole.ids, whole.spans, whole.words, strict=True))[1:-1]
    for stride in (1, 2, 3, 100):
        windows = encoder.windows(TEXT, stride)
        seen = set()
        for window in windows:
            inner = list(zip(window.ids, window.spans, window.words, strict=True))[1:-1]
            assert len(window.ids) <= 9 and (window.ids[0], window.ids[-1]) == (2, 3)
            assert inner == tokens[window.first : window.first + len(inner)]
            seen |= set(range(window.first, window.first + len(inner)))
        assert seen == set(range(len(tokens))) and len(windows) > 2
        shared = windows[0].first + len(windows[0].ids) - 2 - windows[1].first
        assert shared == min(stride, 7 // 2)


def test_near_the_end_of_a_window_labels_do_not_count(piece_tokenizer):
    """A model that errs in the first and last column of a window where the text goes on."""
    made = setting(
        piece_tokenizer,
        "token-classification",
        by_column(lambda column, width, token: 1 if column in (1, width - 2) else 0),
        LABELS,
    )
    words = TEXT.split()
    found = answer_one(made, "tag", TEXT, stride=4)
    # Only the ends of the text itself: elsewhere another window has the word further inside.
    assert [(one["text"], one["start"]) for one in found] == [("Anna", 0), (words[-1], len(TEXT) - 1)]


def test_an_entity_across_windows_is_one(piece_tokenizer):
    ids = TextEncoder(piece_tokenizer.read_bytes(), None)([TEXT], False)[0][0]
    labels = {ids[1]: 1}
    made = setting(
        piece_tokenizer,
        "token-classification",
        by_column(lambda c, w, token: 1 if token in labels else 2),
        LABELS,
    )
    found = answer_one(made, "tag", TEXT, stride=2)
    starts = [0, TEXT.rindex("Anna")]
    assert [one["start"] for one in found] == starts
    assert [one["text"] for one in found] == [TEXT[: starts[1] - 1], TEXT[starts[1] :]]


def test_short_texts_and_truncation_are_as_before(piece_tokenizer):
    made = setting(piece_tokenizer, "token-classification", by_column(lambda c, w, token: 1), LABELS)
    assert len(answer_one(made, "tag", TEXT, truncate=True)) == 14
    assert len(answer_one(made, "tag", TEXT)) == len(TEXT.split())
    assert len(answer_one(made, "tag", "Anna lives")) == 2


@pytest.mark.parametrize("stride", [0, -1, 1.5, None])
def test_bad_strides(piece_tokenizer, stride):
    made = setting(piece_tokenizer, "token-classification", None, LABELS)
    with pytest.raises(InputError, match=r"stride must be a whole number of at least 1"):
        answer_one(made, "tag", TEXT, stride=stride)
