"""Answers out of a context: the best span of all windows, with its probability and its characters."""

import numpy as np
import pytest

from albert_runtime import InputError
from albert_runtime.batch.packed import ModelLimits
from albert_runtime.text.tokenizer import TextEncoder

from ..scripted import answer_one, setting


def scripted(tokenizer, starts, ends, limits=None):
    """A model that answers with the logits given by token id, and the windows it saw."""
    seen = []

    def run(batch, outputs, positions):
        assert outputs == ("start_logits", "end_logits")
        assert positions is None
        seen.append(batch["input_ids"])
        values = [
            np.array([[table.get(int(token), 0.0) for token in row] for row in batch["input_ids"]])
            for table in (starts, ends)
        ]
        return {name: np.float32(logits) for name, logits in zip(outputs, values, strict=True)}

    options = {} if limits is None else {"limits": limits}
    return setting(tokenizer, "question-answering", run, **options), seen


@pytest.fixture
def ids(piece_tokenizer):
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(piece_tokenizer)).get_vocab()


def test_the_likeliest_span(piece_tokenizer, ids):
    made, _ = scripted(piece_tokenizer, {ids["▁anna"]: 3.0}, {ids["▁smith"]: 4.0})
    context = "In  Paris lives Anna  Smith."
    answer = answer_one(made, "answer", ("Who lives?", context))
    assert answer["text"] == "Anna  Smith" == context[answer["start"] : answer["end"]]
    # [CLS] and the 6 tokens of the context count.
    expected = np.exp(3) / (np.exp(3) + 6) * np.exp(4) / (np.exp(4) + 6)
    assert answer["score"] == pytest.approx(expected, rel=1e-6)


def test_an_answer_has_whole_words(piece_tokenizer, ids):
    made, _ = scripted(piece_tokenizer, {ids["o"]: 3.0}, {ids["i"]: 3.0})
    answer = answer_one(made, "answer", ("a", "in (Tom Kim), a"))
    assert (answer["text"], answer["start"], answer["end"]) == ("Tom Kim", 4, 11)


def test_a_span_may_begin_but_not_end_with_a_mere_space_mark(marked_tokenizer, ids):
    """Some models are trained to point at the first piece of a word, whatever it is."""
    made, _ = scripted(marked_tokenizer, {ids["▁"]: 3.0}, {ids["▁"]: 4.0, ids["m"]: 3.0})
    answer = answer_one(made, "answer", ("a", "in Anna kim a"))
    assert (answer["text"], answer["start"], answer["end"]) == ("kim", 8, 11)
    # [CLS], in, Anna, the mark, k, i, m and a.
    expected = np.exp(3) / (np.exp(3) + 7) * np.exp(3) / (np.exp(3) + np.exp(4) + 6)
    assert answer["score"] == pytest.approx(expected, rel=1e-6)


def test_an_answer_ends_with_its_accents(piece_tokenizer, ids):
    made, _ = scripted(piece_tokenizer, {ids["k"]: 3.0}, {ids["m"]: 3.0})
    answer = answer_one(made, "answer", ("a", "in Ki\u0301m\u0301, a"))
    assert (answer["text"], answer["start"], answer["end"]) == ("Ki\u0301m\u0301", 3, 8)


def test_a_context_without_tokens_has_no_answer(piece_tokenizer):
    made, _ = scripted(piece_tokenizer, {}, {})
    answer = answer_one(made, "answer", ("who", "\u0301"))  # an accent on nothing
    assert answer == {"text": "", "score": 0.0, "start": 0, "end": 0}


def test_the_end_is_not_before_the_start(piece_tokenizer, ids):
    made, _ = scripted(piece_tokenizer, {ids["▁smith"]: 3.0}, {ids["▁anna"]: 3.0, ids["▁in"]: 2.0})
    assert answer_one(made, "answer", ("a", "Anna Smith lives in"))["text"] == "Smith lives in"


def test_the_question_is_no_answer(piece_tokenizer, ids):
    made, _ = scripted(piece_tokenizer, {ids["▁who"]: 9.0, ids["▁a"]: 1.0}, {ids["▁who"]: 9.0})
    assert answer_one(made, "answer", ("who", "in a"))["start"] == 3


def test_spans_are_not_longer_than_asked_for(piece_tokenizer, ids):
    made, _ = scripted(piece_tokenizer, {ids["▁anna"]: 3.0}, {ids["▁paris"]: 3.0, ids["▁smith"]: 1.0})
    item = ("a", "Anna Smith lives in Paris")
    assert answer_one(made, "answer", item)["text"] == item[1]
    assert answer_one(made, "answer", item, max_tokens=4)["text"] == "Anna Smith"


def test_long_contexts_run_in_windows(piece_tokenizer, ids):
    made, seen = scripted(piece_tokenizer, {ids["▁paris"]: 5.0}, {ids["▁paris"]: 5.0})
    context = "a b " * 40 + "Paris " + "b a " * 40
    answer = answer_one(made, "answer", ("Who", context), stride=3)
    assert (answer["text"], answer["start"], answer["end"]) == ("Paris", 160, 165)
    rows = [row for batch in seen for row in batch.tolist()]
    assert len(rows) == 18  # 161 tokens, 12 a window, 9 new ones in each but the first
    assert all(len(row) == 16 and row[:3] == [2, ids["▁who"], 3] for row in rows[1:])
    holding = sum(ids["▁paris"] in row for row in rows)
    weight = sum(
        (np.exp(5) * row.count(ids["▁paris"]) + (row.count(ids["▁a"]) + row.count(ids["▁b"])) + 1) ** 2
        for row in rows
    )
    assert holding in (1, 2)
    assert answer["score"] == pytest.approx(np.exp(10) / weight, rel=1e-6)


def test_a_hundred_thousand_characters(piece_tokenizer, ids):
    made, _ = scripted(piece_tokenizer, {ids["▁anna"]: 5.0}, {ids["▁smith"]: 5.0}, ModelLimits(50, 2, 128))
    context = "a b c d " * 12_500 + "Anna Smith"
    answer = answer_one(made, "answer", ("Who?", context))
    assert answer["text"] == "Anna Smith"
    assert answer["start"] == 100_000


CLS = 2


def test_a_question_without_answer(piece_tokenizer, ids):
    item = ("Who?", "Anna Smith")
    made, _ = scripted(piece_tokenizer, {CLS: 4.0, ids["▁anna"]: 3.0}, {CLS: 4.0, ids["▁smith"]: 4.5})
    span = answer_one(made, "answer", item)
    assert (span["text"], span["start"], span["end"]) == ("Anna Smith", 0, 10)
    answer = answer_one(made, "answer", item, allow_no_answer=True)
    assert (answer["text"], answer["start"], answer["end"]) == ("", 0, 0)
    total = (np.exp(4) + np.exp(3) + 1) * (np.exp(4) + np.exp(4.5) + 1)
    assert answer["score"] == pytest.approx(np.exp(8) / total, rel=1e-6)
    assert span["score"] == pytest.approx(np.exp(7.5) / total, rel=1e-6)


@pytest.mark.parametrize("doubt", [3.5, 3.0])  # likelier than no answer, or just as likely
def test_an_answer_that_is_likelier_than_none(piece_tokenizer, ids, doubt):
    made, _ = scripted(piece_tokenizer, {CLS: doubt, ids["▁anna"]: 3.0}, {CLS: 3.0, ids["▁smith"]: 3.5})
    item = ("Who?", "Anna Smith")
    assert answer_one(made, "answer", item, allow_no_answer=True) == answer_one(made, "answer", item)


def test_windows_that_miss_the_answer_do_not_outvote_the_one_that_has_it(piece_tokenizer, ids):
    """[CLS] leads in every window but those of Paris: only if all say so is there no answer."""
    item = ("Who", "a b " * 40 + "Paris " + "b a " * 40)

    def ask(doubt, **options):
        def run(batch, outputs, positions):
            rows = batch["input_ids"]
            paris = rows == ids["▁paris"]
            values = np.where(paris, 5.0, 0.0)
            values[:, 0] = np.where(paris.any(axis=1), doubt, 6.0)
            return dict.fromkeys(outputs, np.float32(values))

        made = setting(piece_tokenizer, "question-answering", run)
        return answer_one(made, "answer", item, stride=3, **options)

    assert ask(4.0, allow_no_answer=True)["text"] == "Paris"
    empty, span = ask(5.5, allow_no_answer=True), ask(5.5)
    assert (empty["text"], span["text"]) == ("", "Paris")
    assert empty["score"] / span["score"] == pytest.approx(np.exp(2 * 5.5 - 2 * 5.0), rel=1e-6)


def test_a_context_without_tokens_with_no_answer_allowed(piece_tokenizer):
    made, _ = scripted(piece_tokenizer, {}, {})
    answer = answer_one(made, "answer", ("who", "\u0301"), allow_no_answer=True)
    assert answer == {"text": "", "score": pytest.approx(1.0), "start": 0, "end": 0}


def test_a_stride_larger_than_a_window(piece_tokenizer, ids):
    made, _ = scripted(piece_tokenizer, {ids["▁anna"]: 5.0}, {ids["▁anna"]: 5.0})
    assert answer_one(made, "answer", ("Who", "a " * 50 + "Anna"), stride=10**6)["start"] == 100


def test_a_question_that_fills_the_model(piece_tokenizer):
    made, _ = scripted(piece_tokenizer, {}, {})
    with pytest.raises(
        InputError, match="row 0: the question is 13 tokens long and leaves no room for the context"
    ):
        answer_one(made, "answer", ("a " * 13, "b"))
    assert answer_one(made, "answer", ("a " * 12, "b c d"))["text"]


def test_windows_share_tokens_and_cover_all(piece_tokenizer):
    encoder = TextEncoder(piece_tokenizer.read_bytes(), 16)
    context = "a b " * 30
    windows = encoder.windows(("who", context), 4)
    covered = {span for row in windows for part, span in zip(row.parts, row.spans, strict=True) if part == 1}
    assert len(covered) == 60
    assert all(len(row.ids) <= 16 and row.ids[0] == 2 and row.ids[-1] == 3 for row in windows)
    assert windows[0].spans[-5:-1] == windows[1].spans[3:7]
    # [CLS] who [SEP] and the rest, the last [SEP] included.
    assert all(row.types == [0] * 3 + [1] * (len(row.ids) - 3) for row in windows)
    assert len(TextEncoder(piece_tokenizer.read_bytes(), None).windows(("who", context), 4)) == 1


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("who", r"row 0 must be a pair \(question, context\)"),
        (("who",), "row 0 must be a pair"),
        (("who", 3), "row 0 is of type int, not a string"),
        (("who", ""), "row 0 is an empty text; leave it out"),
        ((" ", "a"), "row 0 is an empty text"),
        (("who", "\udfff"), "row 0 is no valid Unicode"),
    ],
)
def test_bad_items(piece_tokenizer, item, message):
    made, _ = scripted(piece_tokenizer, {}, {})
    with pytest.raises(InputError, match=message):
        answer_one(made, "answer", item)


@pytest.mark.parametrize("option", ["stride", "max_tokens"])
def test_bad_options(piece_tokenizer, option):
    made, _ = scripted(piece_tokenizer, {}, {})
    with pytest.raises(InputError, match=f"{option} must be a whole number of at least 1, not 0"):
        answer_one(made, "answer", ("a", "b"), **{option: 0})
