"""Answers out of contexts against transformers' question-answering pipeline, on the same checkpoint.

What differs on purpose:

* Of a context longer than the model a pipeline compares probabilities within each window and adds those of
  equal texts; here all spans of all windows share one probability, so that logits decide, as in the SQuAD
  scripts. test_windows computes that from the windows and logits of the pipeline.
* A pipeline may end an answer with the mere space mark before a word (SentencePiece's), and its default,
  align_to_words, counts signs to words and adds the probabilities of all spans that touch the same ones. So
  it is switched off, and the span widened by the rule of Predictor.answer.
"""

import re

import numpy as np
import pytest

from .checkpoints import odd_texts, plain_texts

# Of torch's tensors and numpy 2, in transformers.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

TOLERANCE = 2e-5
LONGEST = 12
QUESTIONS = plain_texts(60, longest=5)
CONTEXTS = plain_texts(30) + odd_texts(30)


@pytest.fixture(scope="module", params=["pieces", "word pieces"])
def answering(request, both):
    return both("AlbertForQuestionAnswering", request.param)


def widened(context, start, end):
    """The span without spaces around it and with the rest of its first and last word."""
    words = [match.span() for match in re.finditer(r"[^\W_\u5df4\u9ece]+(?:\u0301[^\W_]*)*", context)]
    while start < end and context[start].isspace():
        start += 1
    start = next((first for first, last in words if first < start < last), start)
    end = next((last for first, last in words if first < end < last), end)
    return start, end


def span_of(answer):
    return answer["start"], answer["end"]


@pytest.mark.parametrize("handle_impossible_answer", [False, True])
def test_answer(answering, handle_impossible_answer):
    pipe = answering.pipeline(
        "question-answering",
        align_to_words=False,
        max_answer_len=LONGEST,
        handle_impossible_answer=handle_impossible_answer,
    )
    texts, skipped = [], 0
    for question, context in zip(QUESTIONS, CONTEXTS, strict=True):
        expected = pipe(question=question, context=context)
        if expected["answer"][-1:].isspace():
            skipped += 1
            continue
        answer = answering.ours.answer(
            question, context, max_tokens=LONGEST, allow_no_answer=handle_impossible_answer
        )
        assert answer["score"] == pytest.approx(expected["score"], abs=TOLERANCE)
        assert span_of(answer) == widened(context, *span_of(expected)), (context, answer, expected)
        assert answer["text"] == context[answer["start"] : answer["end"]]
        texts.append(answer["text"])
    assert skipped < 10
    assert (0 < texts.count("") < 40) if handle_impossible_answer else "" not in texts
    assert len(set(texts)) > 20


def expected_of_windows(pipe, question, context, stride):
    """(score, start, end) of the best span, and (score, 0, 0) of the empty one, from a pipeline's logits."""
    mass, spans, empty = [], [], []
    for window in pipe.preprocess({"question": question, "context": context}, doc_stride=stride):
        result = pipe.forward(window)
        starts, ends = (result[name].numpy()[0].astype(np.float64) for name in ("start", "end"))
        offsets = window["encoding"].offsets
        allowed = window["p_mask"].numpy()[0] == 0  # the context, and [CLS] in front
        mass.append(np.logaddexp.reduce(starts[allowed]) + np.logaddexp.reduce(ends[allowed]))
        empty.append(starts[0] + ends[0])
        tokens = np.flatnonzero(allowed)[1:]
        spans += [
            (starts[first] + ends[last], offsets[first][0], offsets[last][1])
            for first in tokens
            for last in tokens[(tokens >= first) & (tokens < first + LONGEST)]
            if not context[slice(*offsets[last])].isspace()
        ]
    total = np.logaddexp.reduce(mass)
    best = max(spans)
    return len(mass), (np.exp(best[0] - total), *best[1:]), (np.exp(min(empty) - total), 0, 0)


def test_windows(answering):
    pipe = answering.pipeline("question-answering")
    contexts = [" ".join(CONTEXTS[index : index + 26]) for index in range(0, 40, 4)]
    empty_ones = 0
    for question, context in zip(QUESTIONS, contexts, strict=False):
        count, span, empty = expected_of_windows(pipe, question, context, stride=16)
        assert count > 3
        for allowed, expected in ((False, span), (True, max(span, empty))):
            answer = answering.ours.answer(
                question, context, stride=16, max_tokens=LONGEST, allow_no_answer=allowed
            )
            assert answer["score"] == pytest.approx(expected[0], abs=TOLERANCE)
            assert span_of(answer) == widened(context, *expected[1:])
            empty_ones += not answer["text"]
    assert empty_ones < 10
