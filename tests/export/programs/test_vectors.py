"""Which pooling and steps make a program's vector of a text."""

import numpy as np
import onnx
import onnxruntime
import pytest

from albert_export.errors import ExportError
from albert_export.programs.albert import take_albert
from albert_export.programs.program_file import read_program
from albert_runtime.artifact.sentence import DENSE, NORMALIZE, SentenceHead, Step
from albert_runtime.artifact.tasks import Head
from albert_runtime.backends.sentence_pooling import SentencePooler

from ..albert_float64 import answers
from .spellings.nodes import CONFIG, HIDDEN, tensors
from .spellings.vectors import Vectors

NORMALIZED = Step(NORMALIZE)


def dense(activation):
    return Step(DENSE, HIDDEN, 4, True, activation)


CASES = {
    "mean": (Vectors.mean, ("mean",), ()),
    "mean of a mask for each column": (Vectors.spread_mean, ("mean",), ()),
    "mean by the root of the length": (Vectors.root_mean, ("mean_sqrt_len_tokens",), ()),
    "weighted mean": (Vectors.weighted_mean, ("weightedmean",), ()),
    "max": (Vectors.greatest, ("max",), ()),
    "cls": (Vectors.first, ("cls",), ()),
    "normalized": (lambda p, x: p.normalized(p.mean(x)), ("mean",), (NORMALIZED,)),
    "several": (
        lambda p, x: p.add("Concat", p.first(x), p.greatest(x), p.mean(x), axis=1),
        ("cls", "max", "mean"),
        (),
    ),
    "dense": (lambda p, x: p.dense(p.mean(x)), ("mean",), (dense("Identity"),)),
    "dense and tanh": (
        lambda p, x: p.normalized(p.dense(p.greatest(x), "Tanh")),
        ("max",),
        (dense("Tanh"), NORMALIZED),
    ),
    "dense and sigmoid": (lambda p, x: p.dense(p.mean(x), "Sigmoid"), ("mean",), (dense("Sigmoid"),)),
}


def taken(tmp_path, vector):
    path = tmp_path / "model.onnx"
    onnx.save(Vectors(vector).model(), path)
    return path, lambda: take_albert(read_program(path), None)


@pytest.mark.parametrize("name", CASES)
def test_vectors(tmp_path, name):
    vector, pooling, steps = CASES[name]
    path, take = taken(tmp_path, vector)
    albert = take()
    assert albert.head == Head(sentence=SentenceHead(pooling, steps))
    assert albert.outputs.keys() == {"sentence_embedding"} and albert.left_out == {}
    # It is what the program answers, too.
    ids = np.array([[3, 1, 10, 4, 9], [7, 2, 0, 0, 0]])
    batch = {"input_ids": ids, "attention_mask": (ids > 0) * 1, "token_type_ids": ids % 2}
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, batch)
    hidden = answers(CONFIG, Head(), tensors(), batch)["last_hidden_state"].astype(np.float32)
    pooler = SentencePooler(albert.head.sentence, dict(albert.tensors))
    kept = [np.flatnonzero(row) for row in batch["attention_mask"]]
    found = [pooler.row(states[places], places) for states, places in zip(hidden, kept, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("vector", "words"),
    [
        (Vectors.all_mean, "it weighs tokens as no pooling of sentence-transformers does"),
        (Vectors.all_greatest, "it takes the greatest of masked tokens, too"),
        (lambda p, x: p.normalized(p.normalized(p.mean(x))), None),
        (lambda p, x: p.dense(p.mean(x), "Exp"), "its function is no gelu, gelu_new, relu, tanh or sigmoid"),
        (lambda p, x: p.add("Tanh", p.mean(x)), "it makes tanh of a text's vector"),
        (
            lambda p, x: p.add("Mul", p.mean(x), 2.0),
            "it weighs tokens as no pooling of sentence-transformers does",
        ),
    ],
)
def test_other_vectors(tmp_path, vector, words):
    _, take = taken(tmp_path, vector)
    if words is None:
        assert take().head.sentence.steps == (NORMALIZED, NORMALIZED)
        return
    with pytest.raises(ExportError, match=words):
        take()
