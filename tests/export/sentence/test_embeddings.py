"""Folders of sentence-transformers: ``embed`` and the program's output against ``encode``."""

import numpy as np
import pytest

from albert_runtime import InputError, Predictor
from albert_runtime.artifact.manifest import Manifest
from albert_runtime.artifact.sentence import ACTIVATIONS

from .folders import (
    HIDDEN,
    TEXTS,
    dense,
    encode,
    reference_of,
    scores,
    write_cross_encoder,
    write_dense,
    write_folder,
)

BACKENDS = ("native", "onnxruntime", "paddle")
TOLERANCE = 2e-5
POOLINGS = ("weightedmean", "cls", "max", "lasttoken", "mean", "mean_sqrt_len_tokens")
PROMPTS = {"prompts": {"query": "Query: ", "passage": "passage of text:"}, "default_prompt_name": "passage"}
FOLDERS = {
    "every pooling": {"pooling": POOLINGS, "limit": 20},
    "dense": {
        "pooling": ("lasttoken",),
        "cased": True,
        "lowercase": True,
        "model_max_length": 11,
        "modules": [dense(HIDDEN, 7), "Normalize", dense(7, 9, "torch.nn.ReLU", bias=False)],
    },
    "every activation": {
        "modules": [dense(HIDDEN, HIDDEN, f"torch.nn.{name}") for name in ACTIVATIONS],
    },
    "old": {
        "pooling": ("cls", "mean"),
        "old": True,
        "settings": PROMPTS,
        "modules": [dense(2 * HIDDEN, 5, "torch.nn.modules.linear.Identity"), "Normalize", "Dropout"],
    },
}


def difference(one, other):
    assert one.shape == other.shape
    return np.abs(one - other).max()


@pytest.mark.parametrize("name", FOLDERS)
def test_embed_is_encode(export, tmp_path, name):
    folder = write_folder(tmp_path / "model", **FOLDERS[name])
    wanted = encode(folder, TEXTS)
    artifact = export(folder)
    for backend in BACKENDS:
        predictor = Predictor(artifact, backend=backend)
        assert difference(predictor.embed(TEXTS), wanted) < TOLERANCE, backend
        assert difference(predictor.embed(TEXTS[0]), wanted[0]) < TOLERANCE, backend
        prompt = PROMPTS["prompts"]["passage"] if "settings" in FOLDERS[name] else ""
        texts = [prompt + text for text in TEXTS]
        outputs = predictor.run(texts, outputs=["sentence_embedding"], truncate=True)
        assert difference(outputs["sentence_embedding"], wanted) < TOLERANCE, backend
    (file,) = artifact.glob("*.manifest.json")
    manifest = Manifest.read(file)
    assert manifest.outputs[-1] == "sentence_embedding" and manifest.embedding_size == wanted.shape[1]
    for backend in BACKENDS:
        assert "sentence_embedding" in manifest.verification["backends"][backend]


def test_masks_with_holes_other_precisions_and_other_outputs(export, tmp_path):
    """The graph and the program pool as our engine does, whatever the mask."""
    folder = write_folder(tmp_path / "model", pooling=POOLINGS, modules=[dense(6 * HIDDEN, 5), "Normalize"])
    mask = np.array([[1] * 9, [0, 0, 1, 0, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1, 1, 1, 1, 1]])
    batch = {"input_ids": np.arange(10, 37).reshape(3, 9), "attention_mask": mask}
    artifact = export(folder, "--hidden-states", "--format=json")
    states = Predictor(artifact).run(batch)["last_hidden_state"]
    wanted = reference_of(folder, states, mask)
    for backend in BACKENDS:
        outputs = Predictor(artifact, backend=backend).run(batch)
        assert list(outputs)[-2:] == ["sentence_embedding", "hidden_states"]
        assert difference(outputs["sentence_embedding"], wanted) < TOLERANCE, backend
    narrow = export(folder, "--fp16") / "model-fp16.onnx"
    for backend in ("native", "onnxruntime"):
        vectors = Predictor(narrow, backend=backend).run(batch)["sentence_embedding"]
        assert difference(vectors, wanted) < 0.03, backend


def test_random_weights_and_int8(export, tmp_path):
    folder = write_folder(tmp_path / "model", modules=[dense(HIDDEN, 5)])
    artifact = export(folder, "--int8", "--random-weights", "3")
    (file,) = artifact.glob("*.manifest.json")
    kinds = {tensor.name: tensor.dtype for tensor in Manifest.read(file).tensors}
    assert kinds["sentence.0.weight"] == "float32" and kinds["pooler.weight"] == "int8"
    one = Predictor(artifact, backend="native", precision="fp32").embed(TEXTS)
    assert difference(one, Predictor(artifact, backend="paddle").embed(TEXTS)) < TOLERANCE


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (dense(HIDDEN + 1, 5), "dense step 0 takes vectors of 25 numbers and is given 24"),
        ("CNN", "module CNN cannot be exported"),
    ],
)
def test_what_cannot_be_had_is_refused(run, tmp_path, module, message):
    folder = write_folder(tmp_path / "model", modules=[module])
    outcome = run(folder, "-o", tmp_path / "out")
    assert outcome.code == 1 and message in outcome.err and outcome.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_damaged_dense_weights_are_refused(run, tmp_path):
    folder = write_folder(tmp_path / "model", modules=[dense(HIDDEN, 5)])
    write_dense(folder / "2_Dense", dense(5, HIDDEN), old=False)
    outcome = run(folder, "-o", tmp_path / "out", "--quiet")
    assert outcome.code == 1 and "linear.weight has shape [24, 5] instead of [5, 24]" in outcome.err


def test_another_task_leaves_the_modules_aside(run, tmp_path):
    folder = write_folder(tmp_path / "model", modules=["CNN"])
    outcome = run(folder, "-o", tmp_path / "out", "--task", "masked-lm", "--random-weights")
    assert outcome.code == 0, outcome.err
    assert Predictor(tmp_path / "out").task == "masked-lm"


def test_prompts_that_are_not_pooled(export, tmp_path):
    folder = write_folder(
        tmp_path / "model",
        pooling=POOLINGS,
        include_prompt=False,
        modules=["Normalize"],
        settings=PROMPTS,
        limit=20,
    )
    artifact = export(folder)
    for backend in BACKENDS:
        predictor = Predictor(artifact, backend=backend)
        vectors = {None: predictor.embed(TEXTS)}
        for name in ("query", "passage", "document"):
            vectors[name] = predictor.embed(TEXTS, prompt_name=name)
        for name, found in vectors.items():
            assert difference(found, encode(folder, TEXTS, name)) < TOLERANCE, (backend, name)
        assert np.array_equal(vectors[None], vectors["passage"])
        assert difference(vectors["query"], vectors["document"]) > 0.01
    with pytest.raises(
        InputError, match="prompt 'other' is unknown; model has the prompts query, document, p"
    ):
        predictor.embed("a", prompt_name="other")


def test_the_scores_of_a_cross_encoder(export, tmp_path):
    """CrossEncoder.predict of 6.2.0: its activation lies beside the config, here a sigmoid."""
    folder = write_cross_encoder(tmp_path / "model")
    pairs = [("a list", "of names"), ("python", "what it prints")]
    found = [answer["score"] for answer in Predictor(export(folder)).classify(pairs)]
    assert np.abs(np.array(found) - scores(folder, pairs)).max() < TOLERANCE
