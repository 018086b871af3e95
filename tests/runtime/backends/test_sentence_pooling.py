"""Pooling and steps in numpy: each activation as torch has it, rows that do not depend on the batch."""

import numpy as np
import pytest

from albert_runtime import Predictor
from albert_runtime.artifact.artifact import Artifact
from albert_runtime.artifact.sentence import (
    ACTIVATIONS,
    DENSE,
    NORMALIZE,
    POOLINGS,
    SentenceHead,
    SentenceTexts,
    Step,
)
from albert_runtime.backends.sentence_pooling import SentencePooler
from albert_runtime.errors import ArtifactError

TEXTS = SentenceTexts({})
HEAD = SentenceHead(POOLINGS, (Step(DENSE, 72, 5, False, "GELU"), Step(NORMALIZE)))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_those_of_torch(name):
    torch = pytest.importorskip("torch")
    x = np.concatenate([np.linspace(-30, 30, 1201), [-1e4, 1e4, 0.0]]).astype(np.float32)
    head = SentenceHead(("cls",), (Step(DENSE, 1, len(x), False, name),))
    pooler = SentencePooler(head, {"sentence.0.weight": x[None]})
    found = pooler.row(np.ones((1, 1), np.float32), np.array([0], np.int32))
    wanted = getattr(torch.nn, name)()(torch.from_numpy(x.astype(np.float64))).numpy()
    assert np.abs(found - wanted).max() < 1e-8  # torch's Softplus is linear beyond 20


@pytest.fixture
def path(make_artifact):
    return make_artifact(sentence=HEAD, sentence_texts=TEXTS)


@pytest.mark.parametrize("backend", ["native", "gpu"])
def test_the_engines_give_it(path, backend):
    """From their own hidden states, whichever outputs are asked for, holes and left padding included."""
    if backend == "gpu":
        pytest.importorskip("triton")
    predictor = Predictor(path, backend=backend)
    ids = np.arange(1, 25).reshape(3, 8)
    mask = np.array([[1] * 8, [0, 0, 1, 0, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1, 1, 1]])
    batch = {"input_ids": ids, "attention_mask": mask}
    whole = predictor.run(batch)
    found = predictor.run(batch, outputs=["sentence_embedding"])
    assert list(found) == ["sentence_embedding"] and found["sentence_embedding"].shape == (3, 5)
    assert np.array_equal(found["sentence_embedding"], whole["sentence_embedding"])
    pooler = SentencePooler.of(Artifact.open(path))
    for row, states in enumerate(whole["last_hidden_state"]):
        columns = np.flatnonzero(mask[row]).astype(np.int32)
        wanted = pooler.row(states[columns], columns).astype(np.float32)
        assert np.array_equal(whole["sentence_embedding"][row], wanted)


def test_a_row_has_the_same_bits_in_any_batch(path):
    predictor = Predictor(path)
    rows = [[5, 6, 7, 8, 9], [3], [10, 11, 12], [4] * 10]
    together = predictor.run(rows)["sentence_embedding"]
    for index, row in enumerate(rows):
        assert np.array_equal(predictor.run([row])["sentence_embedding"][0], together[index])
    futures = [predictor.submit([row], outputs=["sentence_embedding"]) for row in rows]
    assert np.array_equal([future.result()["sentence_embedding"][0] for future in futures], together)


def test_weights_of_another_type_are_refused(path):
    path.write_text(path.read_text().replace('"sentence.0.weight",\n   "dtype": "float32"', "DTYPE"))
    text = path.read_text().replace("DTYPE", '"sentence.0.weight",\n   "dtype": "bfloat16"')
    path.write_text(text.replace(f'"length": {72 * 5 * 4}', f'"length": {72 * 5 * 2}'))
    with pytest.raises(ArtifactError, match=r"sentence\.0\.weight is bfloat16; it must be float32"):
        Predictor(path, backend="native")
