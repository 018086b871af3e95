"""classify: the activation that makes scores of logits, and labels that share a name."""

import numpy as np
import pytest

from albert_runtime import InputError, Predictor

TEXTS = ["Anna lives in Paris", "who"]
# Of each activation what transformers' text-classification pipeline computes: function_to_apply.
BY_HAND = {
    "none": lambda logits: logits,
    "sigmoid": lambda logits: 1 / (1 + np.exp(-logits)),
    "softmax": lambda logits: np.exp(logits) / np.exp(logits).sum(),
}


@pytest.fixture
def make(make_task):
    return lambda *labels, **options: Predictor(
        make_task("sequence-classification", labels=labels, **options), backend="native"
    )


@pytest.mark.parametrize("said", [None, *BY_HAND])
@pytest.mark.parametrize("asked", [None, *BY_HAND])
def test_the_activation_of_several_labels(make, said, asked):
    model = make("bad", "good", "odd", activation=said)
    function = asked or said or "softmax"
    for text in TEXTS:
        logits = model.run([text])["logits"][0].astype(np.float64)
        expected = BY_HAND[function](logits)
        options = {} if asked is None else {"activation": asked}
        answer = model.classify(text, top_k=3, **options)
        scores = answer["probabilities"]
        assert [scores[name] for name in ("bad", "good", "odd")] == pytest.approx(expected, abs=1e-6)
        assert (answer["label"], answer["score"]) == next(iter(scores.items()))
        # A softmax's best label is an answer; scores that do not share a sum come together.
        assert ("probabilities" in model.classify(text, **options)) is (function != "softmax")


@pytest.mark.parametrize(("said", "function"), [(None, "none"), ("none", "none"), ("sigmoid", "sigmoid")])
def test_the_activation_of_one_logit(make, said, function):
    model = make("score", activation=said)
    logit = float(model.run(["who"])["logits"][0, 0])
    score = pytest.approx(BY_HAND[function](logit), abs=1e-6)
    assert model.classify("who") == {"label": "score", "score": score}
    assert model.classify("who", activation="none")["score"] == pytest.approx(logit, abs=1e-6)


def test_labels_of_one_name_lose_nothing(make):
    model = make("same", "same", "other", "same")
    logits = model.run(["who"])["logits"][0].astype(np.float64)
    shares = BY_HAND["softmax"](logits)
    answer = model.classify("who", top_k=4)
    found = answer["probabilities"]
    assert sum(found.values()) == pytest.approx(1, abs=1e-6)
    best, *rest = sorted((0, 1, 3), key=lambda column: -shares[column])
    assert found["same"] == pytest.approx(shares[best], abs=1e-6)
    assert [found[f"same (LABEL_{i})"] for i in rest] == pytest.approx(shares[rest], abs=1e-6)
    assert answer["label"] == ("other" if shares.argmax() == 2 else "same")


@pytest.mark.parametrize("activation", ["tanh", "", 1, ["none"]])
def test_unknown_activations(make, activation):
    with pytest.raises(InputError, match="activation must be one of none, sigmoid, softmax"):
        make("a", "b").classify("who", activation=activation)
