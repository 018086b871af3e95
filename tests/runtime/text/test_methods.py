"""Answers of whole Predictors: labels, vectors, choices; streams of any length; what cannot be answered."""

import json
import sys

import numpy as np
import pytest

from albert_runtime import InputError, Predictor
from albert_runtime.text import progress as progress_module
from albert_runtime.text import stream

TEXTS = ["Anna lives in Paris", "who", ("a b", "Anna Smith")]


@pytest.fixture
def make(make_task):
    return lambda task, **changes: Predictor(make_task(task, **changes), backend="native")


@pytest.fixture
def classifier(make):
    return make("sequence-classification", labels=("bad", "good", "odd"))


def test_classify(classifier):
    logits = classifier.run(TEXTS)["logits"].astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = classifier.classify(TEXTS, top_k=3)
    for answer, row in zip(found, shares, strict=True):
        assert answer["label"] == ("bad", "good", "odd")[row.argmax()]
        assert answer["score"] == pytest.approx(row.max(), abs=1e-6)
        probabilities = answer["probabilities"]
        assert sorted(probabilities.values(), reverse=True) == list(probabilities.values())
        assert [probabilities[name] for name in ("bad", "good", "odd")] == pytest.approx(row, abs=1e-6)
    assert [len(answer["probabilities"]) for answer in classifier.classify(TEXTS, top_k=2)] == [2] * 3
    bare = classifier.classify(TEXTS)
    assert bare == [{"label": answer["label"], "score": answer["score"]} for answer in found]
    assert json.loads(json.dumps(found)) == found


def test_one_text_gives_one_answer(classifier, make):
    assert classifier.classify(TEXTS[0]) == classifier.classify(TEXTS)[0]
    assert make("token-classification", labels=("B-X",)).tag("who")[0]["text"] == "who"
    assert make("masked-lm").fill_mask("who [MASK]")["masks"]
    assert make("model").embed("who").shape == (12,)


def test_any_iterable_gives_a_list(classifier):
    expected = classifier.classify(TEXTS)
    assert classifier.classify(tuple(TEXTS)) == expected
    assert classifier.classify(iter(TEXTS)) == expected
    assert classifier.classify([]) == []


def test_one_label_is_a_regression(make):
    predictor = make("sequence-classification", labels=("score",))
    logit = float(predictor.run(["who"])["logits"][0, 0])
    assert predictor.classify("who") == {"label": "score", "score": logit}


@pytest.mark.parametrize("normalize", [True, False])
def test_embed(make, normalize):
    predictor = make("model")
    states = {name: values.astype(np.float64) for name, values in predictor.run(TEXTS).items()}
    lengths = [6, 3, 7]
    rows = states["last_hidden_state"]
    expected = {
        "mean": np.array([row[:count].mean(axis=0) for row, count in zip(rows, lengths, strict=True)]),
        "cls": rows[:, 0],
        "pooler": states["pooled_output"],
    }
    for pooling, vectors in expected.items():
        found = predictor.embed(TEXTS, pooling=pooling, normalize=normalize)
        assert found.dtype == np.float32
        assert found.shape == (3, 12)
        if normalize:
            np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-6)
            found = found * np.linalg.norm(vectors, axis=1, keepdims=True)
        np.testing.assert_allclose(found, vectors, atol=5e-6)
    np.testing.assert_array_equal(predictor.embed(TEXTS), predictor.embed(TEXTS, pooling="mean"))
    assert predictor.embed([]).shape == (0, 12)


def test_embed_without_pooler(make):
    predictor = make("model", add_pooling_layer=False)
    assert predictor.embed(TEXTS).shape == (3, 12)
    with pytest.raises(InputError, match="tiny has no pooler; choose pooling='mean' or 'cls'"):
        predictor.embed(TEXTS, pooling="pooler")
    with pytest.raises(InputError, match="pooling 'max' is unknown; choose one of mean, cls, pooler"):
        predictor.embed(TEXTS, pooling="max")


def test_choose(make):
    predictor = make("multiple-choice")
    choices = ["in Paris", "a", "Smith Smith"]
    logits = predictor.run([[("Anna lives", choice) for choice in choices]])["logits"][0].astype(float)
    answer = predictor.choose("Anna lives", choices)
    shares = np.exp(logits) / np.exp(logits).sum()
    assert answer["index"] == shares.argmax()
    assert answer["choice"] == choices[answer["index"]]
    assert answer["score"] == max(answer["probabilities"])
    assert answer["probabilities"] == pytest.approx(shares, abs=1e-6)
    items = [("who", choices), ("who", ["a", "b"]), ("a", choices), ("b", ["x"])]
    assert list(predictor.stream("choose", items)) == [predictor.choose(*item) for item in items]


def test_question_answering(make):
    predictor = make("question-answering")
    context = "Anna Smith lives in Paris. " * 30
    answer = predictor.answer("who lives", context, stride=8)
    assert context[answer["start"] : answer["end"]] == answer["text"]
    assert 0 < answer["score"] < 1


def test_long_inputs_stream_in_their_order(classifier, monkeypatch):
    generator = np.random.default_rng(0)
    texts = [" ".join(["a"] * int(count)) for count in generator.integers(1, 60, 300)]
    batches = []
    run = classifier._model.backend.run

    def counting(batch, *arguments):
        batches.append(batch.shape)
        return run(batch, *arguments)

    expected = [classifier.classify(text) for text in texts]
    monkeypatch.setattr(classifier._model.backend, "run", counting)
    monkeypatch.setattr(stream, "_MAX_PADDED_TOKENS", 500)
    assert classifier.classify(texts) == expected
    assert sum(rows for rows, _ in batches) == 300
    assert all(rows * width <= 500 for rows, width in batches)
    assert len(batches) < 40


def test_a_stream_reads_no_further_than_it_must(classifier):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield "Anna"

    stream = classifier.stream("classify", endless())
    assert not taken
    assert [next(stream) for _ in range(3)]
    assert len(taken) == 256
    taken.clear()
    long = classifier.stream(
        "classify", ("a " * 50_000 for _ in iter(endless().__next__, None)), truncate=True
    )
    next(long)
    assert len(taken) == 2


class Terminal:
    """A stderr that is a terminal and keeps what is written."""

    def __init__(self):
        self.text = ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text
        return len(text)

    def flush(self):
        pass


@pytest.mark.parametrize("moment", [-1.0, 1e9])
def test_the_bar_appears_on_a_terminal_after_a_moment(classifier, monkeypatch, moment):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress_module, "_MOMENT", moment)
    monkeypatch.setenv("TERM", "xterm")
    assert len(classifier.classify(["a"] * 5)) == 5
    assert ("classify" in terminal.text) == (moment < 0)


def test_no_bar_without_terminal_or_rich(classifier, monkeypatch, capsys):
    monkeypatch.setattr(progress_module, "_MOMENT", -1.0)
    classifier.classify(["a"])
    assert capsys.readouterr().err == ""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    classifier.classify(["a"] * 3)
    assert terminal.text == ""


def test_texts_are_cut_to_the_tokenizers_own_length(make_task):
    """The smaller of positions and model_max_length, as in transformers; without truncate positions count."""
    predictor = Predictor(make_task("model", max_length=8), backend="native")
    text = "anna " * 20
    cut = predictor.pack([text], truncate=True)
    assert cut.shape == (1, 8)
    assert predictor.pack([text]).shape == (1, 22)
    np.testing.assert_array_equal(predictor.embed(text, truncate=True), predictor.embed("anna " * 6))
    # Token ids are no text: the tokenizer has no say in them.
    assert predictor.pack([[2, *[6] * 70, 3]], truncate=True).shape == (1, 64)


def test_windows_are_as_long_as_the_tokenizer_says(make_task):
    path = make_task("question-answering", max_length=12)
    predictor = Predictor(path, backend="native")
    context = "anna lives in paris " * 4
    windows = predictor._text_model("answer").encoder.windows(("who", context), 2)
    assert len(windows) > 1 and max(len(row.ids) for row in windows) == 12
    assert predictor.answer("who", context)["text"] in context
