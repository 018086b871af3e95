"""The sentence head and its text rules in a manifest: the round trip, and what is refused."""

import json

import pytest

from albert_runtime.artifact.artifact import Artifact
from albert_runtime.artifact.manifest import Manifest
from albert_runtime.artifact.sentence import DENSE, NORMALIZE, SentenceHead, SentenceTexts, Step
from albert_runtime.errors import ArtifactError

HEAD = SentenceHead(("mean", "cls"), (Step(DENSE, 24, 5, True, "Tanh"), Step(NORMALIZE)))
TEXTS = SentenceTexts({"query": "Query: ", "document": ""}, "query", False)


@pytest.fixture
def path(make_artifact):
    return make_artifact(sentence=HEAD, sentence_texts=TEXTS)


def test_round_trip(path):
    manifest = Manifest.read(path)
    assert manifest.head.sentence == HEAD and manifest.sentence_texts == TEXTS
    assert manifest.outputs == ("last_hidden_state", "pooled_output", "sentence_embedding")
    assert manifest.embedding_size == 5
    assert json.loads(json.dumps(manifest.to_dict())) == json.loads(path.read_text())


def test_others_are_written_as_before(make_artifact):
    data = json.loads(make_artifact().read_text())
    assert data["head"] is None and "sentence_texts" not in data
    assert Manifest.from_dict(data).embedding_size == 12


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("head", "sentence"), [], "sentence must be an object of pooling and steps"),
        (("head", "sentence", "pooling"), ["median"], "pooling median is unknown"),
        (("head", "sentence", "pooling"), [], "a sentence head has 1 to 6 poolings"),
        (
            ("head", "sentence", "pooling"),
            ["mean"],
            "dense step 0 takes vectors of 24 numbers and is given 12",
        ),
        (("head", "sentence", "steps", 0, "activation"), "os.system", "activation os.system of a dense step"),
        (("head", "sentence", "steps", 0, "inputs"), 1 << 40, "a dense step has sizes from 1 to 1048576"),
        (
            ("head", "sentence", "steps", 0, "outputs"),
            6,
            " has shape [24, 5], the config asks for [24, 6]",
        ),
        (("head", "sentence", "steps", 0, "kind"), ["dense"], "step ['dense'] is unknown"),
        (("head", "sentence", "steps", 1, "bias"), True, "a normalize step has no sizes"),
        (("head", "sentence", "steps", 1), {}, "a step of sentence must have exactly the fields"),
        (("sentence_texts",), None, "sentence_texts must be there if the head has sentence"),
        (("sentence_texts", "prompts"), ["a"], "sentence_texts.prompts must be an object"),
        (("sentence_texts", "prompts", "query"), 3, "prompts must be at most 10000 texts by name"),
        (("sentence_texts", "prompts", "query"), "\ud800", "prompts hold a lone surrogate"),
        (("sentence_texts", "default_prompt_name"), ["query"], "which is none of the prompts"),
        (("sentence_texts", "include_prompt"), 1, "include_prompt must be true or false, not 1"),
        (("sentence_texts",), {"prompts": {}}, "sentence_texts must have exactly the fields"),
    ],
)
def test_what_is_refused(path, keys, value, message):
    data = json.loads(path.read_text())
    target = data
    for key in keys[:-1]:
        target = target[key]
    target[keys[-1]] = value
    path.write_text(json.dumps(data))
    with pytest.raises(ArtifactError) as caught:
        Artifact.open(path)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_only_a_bare_model_has_one(make_artifact):
    with pytest.raises(ArtifactError, match="sentence must be left out of masked-lm; only model can have it"):
        make_artifact(task="masked-lm", sentence=HEAD)
