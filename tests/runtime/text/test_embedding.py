"""embed() of a model of a sentence-transformers folder: cut texts, prompts, other poolings."""

import numpy as np
import pytest

from albert_runtime import InputError, Predictor
from albert_runtime.artifact.sentence import SentenceHead, SentenceTexts

LONG = "anna lives in paris " * 6


@pytest.fixture
def make(make_task):
    def made(pooling=("mean",), **texts):
        values = {"prompts": {"query": "who ", "document": ""}, **texts}
        head = SentenceHead(pooling)
        return Predictor(
            make_task("model", sentence=head, sentence_texts=SentenceTexts(**values), max_length=9)
        )

    return made


def test_long_texts_are_cut_unless_that_is_refused(make):
    predictor = make()
    cut = predictor.run([LONG], truncate=True)["last_hidden_state"][0]
    assert len(cut) == 9
    assert np.allclose(predictor.embed(LONG), cut.mean(axis=0), atol=1e-6)
    assert np.array_equal(predictor.embed(LONG, truncate=True), predictor.embed(LONG))
    assert not np.allclose(predictor.embed(LONG, truncate=False), predictor.embed(LONG), atol=1e-3)
    with pytest.raises(InputError, match=r"max_position_embeddings is 64; shorten it or set truncate"):
        predictor.embed(LONG * 4, truncate=False)


def test_prompts_are_pooled_or_not(make):
    for include in (True, False):
        predictor = make(default_prompt_name="query", include_prompt=include)
        states = predictor.run(["who anna lives"])["last_hidden_state"][0]
        wanted = states[0 if include else 2 :].mean(axis=0)  # [CLS] and who
        assert np.allclose(predictor.embed("anna lives"), wanted, atol=1e-6)
        pair = predictor.embed([("anna", "lives")])[0]
        assert (
            np.array_equal(pair, predictor.embed([("who anna", "lives")], prompt_name="document")[0])
            == include
        )
    assert np.array_equal(
        predictor.embed("anna", prompt_name="document"),
        predictor.embed("anna", prompt_name="document", pooling="mean", normalize=False),
    )


def test_a_named_pooling_takes_the_place_of_the_modules(make):
    predictor = make(pooling=("max",), default_prompt_name="query")
    states = predictor.run(["who anna"])["last_hidden_state"][0]
    assert np.allclose(predictor.embed("anna"), states.max(axis=0), atol=1e-6)
    mean = states.mean(axis=0)
    assert np.allclose(predictor.embed("anna", pooling="mean", normalize=False), mean, atol=1e-6)
    assert np.allclose(predictor.embed("anna", pooling="mean"), mean / np.linalg.norm(mean), atol=1e-6)
    assert np.isclose(np.linalg.norm(predictor.embed("anna", normalize=True)), 1)


def test_unknown_prompts(make, make_task):
    with pytest.raises(InputError, match=r"prompt 'answer' is unknown; tiny has the prompts query, document"):
        make().embed("a", prompt_name="answer")
    with pytest.raises(InputError, match=r"prompt 'query' is unknown; tiny has no prompts"):
        Predictor(make_task("model")).embed("a", prompt_name="query")


def test_token_ids_are_whole_rows(make_task, make):
    """Nothing is added to them, no prompt is left out of them."""
    for predictor in (Predictor(make_task("model")), make(default_prompt_name="query", include_prompt=False)):
        texts = ["anna lives", "who"]
        ids = [row.tolist() for row in np.split(predictor.pack(texts).input_ids, [4])]
        options = {"prompt_name": "document"} if predictor.manifest.sentence_texts else {}
        expected = predictor.embed(texts, **options)
        assert np.array_equal(predictor.embed(ids), expected)
        assert np.array_equal(predictor.embed([ids[0], np.array(ids[1])]), expected)
        assert np.array_equal(predictor.embed([texts[0], ids[1]], **options), expected)


def test_long_rows_of_token_ids(make_task, make):
    plain, sentences = Predictor(make_task("model")), make()
    with pytest.raises(InputError, match=r"row 1 is 70 tokens long, max_position_embeddings is 64"):
        plain.embed([[5], [5] * 70])
    assert np.array_equal(plain.embed([[5] * 70], truncate=True), plain.embed([[5] * 64]))
    assert np.array_equal(sentences.embed([[5] * 70]), sentences.embed([[5] * 9]))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([5, 50], "row 1, column 1: input_ids holds 50, allowed are 0 to 49"),
        ([5, -1], "row 1, column 1: input_ids holds -1"),
        ([5, 2**70], "row 1"),
        ([5, 1.5], "row 1 is no string, no pair of strings and no list of token ids"),
        ([[5], [6]], "row 1 is no string"),
        ([5, "a"], "row 1 is no string"),
        ([], "row 1"),
    ],
)
def test_bad_token_ids(make_task, row, message):
    with pytest.raises(InputError, match=message):
        Predictor(make_task("model")).embed([[5], row])


@pytest.mark.parametrize("pooling", ["mean", "cls", None])
def test_dimensions_are_cut_and_then_scaled(make, make_task, pooling):
    for predictor in (make(), Predictor(make_task("model"))):
        whole = predictor.embed(["anna", "who lives"], pooling=pooling, normalize=False)
        cut = predictor.embed(["anna", "who lives"], pooling=pooling, dimensions=5)
        expected = whole[:, :5] / np.linalg.norm(whole[:, :5], axis=1, keepdims=True)
        assert cut.shape == (2, 5) and np.allclose(cut, expected, atol=1e-6)
        raw = predictor.embed(["anna", "who lives"], pooling=pooling, normalize=False, dimensions=5)
        assert np.array_equal(raw, whole[:, :5])
        assert predictor.embed("anna", dimensions=12).shape == (12,)


@pytest.mark.parametrize(
    ("dimensions", "message"),
    [(0, "dimensions must be a whole"), (13, "dimensions is 13; .* have 12"), ("3", "dimensions must be")],
)
def test_bad_dimensions(make_task, dimensions, message):
    with pytest.raises(InputError, match=message):
        Predictor(make_task("model")).embed("a", dimensions=dimensions)
