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
    with pytest.raises(InputError, match="max_position_embeddings is 64; shorten it or set truncate"):
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
    with pytest.raises(InputError, match="prompt 'answer' is unknown; tiny has the prompts query, document"):
        make().embed("a", prompt_name="answer")
    with pytest.raises(InputError, match="prompt 'query' is unknown; tiny has no prompts"):
        Predictor(make_task("model")).embed("a", prompt_name="query")
