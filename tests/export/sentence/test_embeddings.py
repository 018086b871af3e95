"""Folders of sentence-transformers: ``embed`` and the program's output against ``encode``."""

import numpy as np
import pytest

from albert_runtime import InputError, Predictor
from albert_runtime.artifact.manifest import Manifest

from .folders import HIDDEN, TEXTS, dense, encode, write_folder

BACKENDS = ("native", "onnxruntime", "paddle")
TOLERANCE = 2e-5
POOLINGS = ("weightedmean", "cls", "max", "lasttoken", "mean", "mean_sqrt_len_tokens")
FOLDERS = {
    "every pooling": {"pooling": POOLINGS, "limit": 20},
    "dense": {
        "pooling": ("lasttoken",),
        "modules": [dense(HIDDEN, 7), "Normalize", dense(7, 9, "torch.nn.ReLU", bias=False)],
    },
    "old": {
        "pooling": ("cls", "mean"),
        "old": True,
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
        outputs = predictor.run(TEXTS, outputs=["sentence_embedding"], truncate=True)
        assert difference(outputs["sentence_embedding"], wanted) < TOLERANCE, backend
    (file,) = artifact.glob("*.manifest.json")
    manifest = Manifest.read(file)
    assert manifest.outputs[-1] == "sentence_embedding" and manifest.embedding_size == wanted.shape[1]
    for backend in BACKENDS:
        assert "sentence_embedding" in manifest.verification["backends"][backend]


PROMPTS = {"prompts": {"query": "Query: ", "passage": "passage of text:"}, "default_prompt_name": "passage"}


@pytest.mark.parametrize("include_prompt", [True, False])
def test_prompts(export, tmp_path, include_prompt):
    folder = write_folder(
        tmp_path / "model",
        pooling=POOLINGS,
        include_prompt=include_prompt,
        modules=["Normalize"],
        settings=PROMPTS,
        limit=20,
    )
    artifact = export(folder)
    for backend in BACKENDS[: 3 if include_prompt is False else 1]:
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
