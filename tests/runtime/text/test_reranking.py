"""Documents in the order of their relevance: by a classifier of pairs, or by the cosine of vectors."""

import asyncio

import numpy as np
import pytest

from albert_runtime import InputError, Predictor
from albert_runtime.artifact.sentence import DENSE, SentenceHead, SentenceTexts, Step

DOCUMENTS = ["Anna lives in Paris.", "who", "Smith lives in Paris, a b", "b"]
QUERY = "who lives in Paris?"


def ranked(scores):
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    return [{"index": index, "score": scores[index]} for index in order]


def load(path):
    return Predictor(path, backend="native", num_threads=1)


@pytest.mark.parametrize("activation", [None, "sigmoid", "none"])
def test_one_label(make_task, activation):
    predictor = load(make_task("sequence-classification", labels=("relevant",)))
    pairs = [(QUERY, document) for document in DOCUMENTS]
    scores = [answer["score"] for answer in predictor.classify(pairs, activation=activation)]
    assert predictor.rerank(QUERY, DOCUMENTS, activation=activation) == ranked(scores)


def test_the_second_of_two_labels(make_task):
    predictor = load(make_task("sequence-classification", labels=("no", "yes")))
    pairs = [(QUERY, document) for document in DOCUMENTS]
    logits = predictor.run(pairs)["logits"].astype(np.float64)
    expected = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    found = predictor.rerank(QUERY, DOCUMENTS)
    assert [one["index"] for one in found] == (-expected).argsort().tolist()
    np.testing.assert_allclose([one["score"] for one in found], sorted(expected, reverse=True), rtol=1e-12)


def test_an_encoder(make_task):
    predictor = load(make_task("model"))
    cosines = predictor.embed(DOCUMENTS).astype(np.float64) @ predictor.embed(QUERY).astype(np.float64)
    found = predictor.rerank(QUERY, DOCUMENTS)
    assert [one["index"] for one in found] == (-cosines).argsort().tolist()
    np.testing.assert_allclose([one["score"] for one in found], sorted(cosines, reverse=True), rtol=1e-6)


def test_a_sentence_model_with_its_prompts(make_task):
    """As encode_query and encode_document of sentence-transformers do."""
    texts = SentenceTexts({"query": "who lives: ", "passage": "a b ", "other": "in "}, "other", False)
    head = SentenceHead(("mean",), (Step(DENSE, 12, 7, True, "Tanh"),))
    predictor = load(make_task("model", sentence=head, sentence_texts=texts))
    query = predictor.embed(QUERY, prompt_name="query", normalize=True).astype(np.float64)
    vectors = predictor.embed(DOCUMENTS, prompt_name="passage", normalize=True).astype(np.float64)
    found = predictor.rerank(QUERY, DOCUMENTS)
    assert [one["index"] for one in found] == (-(vectors @ query)).argsort().tolist()


def test_only_the_best(make_task):
    predictor = load(make_task("model"))
    assert predictor.rerank(QUERY, DOCUMENTS, top_n=2) == predictor.rerank(QUERY, DOCUMENTS)[:2]
    assert len(predictor.rerank(QUERY, DOCUMENTS, top_n=99)) == 4


def test_long_documents(make_task):
    predictor = load(make_task("sequence-classification", labels=("relevant",)))
    long = [*DOCUMENTS, "who lives " * 80]
    with pytest.raises(InputError, match=r"row 4 is .* tokens long"):
        predictor.rerank(QUERY, long)
    pairs = [(QUERY, document) for document in long]
    scores = [answer["score"] for answer in predictor.classify(pairs, truncate=True)]
    assert predictor.rerank(QUERY, long, truncate=True) == ranked(scores)


@pytest.mark.parametrize("task", ["model", "sequence-classification"])
def test_for_asyncio(make_task, task):
    predictor = load(make_task(task, labels=("relevant",) if task != "model" else ()))
    found, tokens = asyncio.run(predictor.arerank(QUERY, DOCUMENTS, top_n=3))
    assert found == predictor.rerank(QUERY, DOCUMENTS, top_n=3)
    rows = [QUERY, *DOCUMENTS] if task == "model" else [(QUERY, document) for document in DOCUMENTS]
    assert tokens == predictor.pack(rows).tokens


@pytest.mark.parametrize(
    ("query", "documents", "options", "message"),
    [
        ("", ["a"], {}, "query 0 is an empty text"),
        (None, ["a"], {}, "query 0 is of type NoneType"),
        ("a", [], {}, "documents must be a list of strings, at least one"),
        ("a", "b", {}, "documents must be a list"),
        ("a", ["b", ""], {}, "row 1 is an empty text"),
        ("a", ["b", 5], {}, "row 1 is of type int"),
        ("a", ["b"], {"top_n": 0}, "top_n must be a whole number of at least 1"),
        ("a", ["b"], {"activation": "sigmoid"}, "activation is for classifiers"),
    ],
)
def test_what_is_refused(make_task, query, documents, options, message):
    with pytest.raises(InputError, match=message):
        load(make_task("model")).rerank(query, documents, **options)


def test_models_without_relevance(make_task):
    with pytest.raises(InputError, match=r"has 3 labels; rerank needs"):
        load(make_task("sequence-classification", labels=("a", "b", "c"))).rerank("a", ["b"])
    with pytest.raises(InputError, match=r"is a masked-lm model: use fill_mask\(text\)"):
        load(make_task("masked-lm")).rerank("a", ["b"])
