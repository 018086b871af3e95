"""A variant's name alone: what is fetched, when, and how the fetched folder is read."""

import pickle
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from .test_cli import one_line_error, stop_at_the_pipeline


@pytest.fixture
def published(monkeypatch, tmp_path):
    """Stands in for the module that fetches: published.calls, and the folder that it answers with."""
    folder, calls = tmp_path / "cache", []
    folder.mkdir()

    def fetch(variant, *, source, revision, progress):
        calls.append((variant, source, revision))
        for size in (0, 1, 2):
            progress("config.json", size, None)
            progress("weights", size, 2)
        return folder

    monkeypatch.setitem(sys.modules, "albert_export.hub.fetch", SimpleNamespace(fetch=fetch))
    return SimpleNamespace(folder=folder, calls=calls)


@pytest.fixture
def small_variant(monkeypatch, tiny):
    """The name of a variant that is tiny."""
    monkeypatch.setattr("albert_export.sources.VARIANTS", {"albert-base-v2": tiny})
    return "albert-base-v2"


def test_published_weights_of_paddlenlp(
    run, tmp_path, monkeypatch, published, small_variant, tiny, tiny_tensors
):
    """The folder has no config: the variant's table counts."""
    requests = stop_at_the_pipeline(monkeypatch)
    state = {f"transformer.{name}": value for name, value in tiny_tensors.items()}
    state |= {"predictions.bias": np.zeros(60, np.float32)}
    (published.folder / "model_state.pdparams").write_bytes(pickle.dumps(state))
    outcome = run(small_variant, "-o", tmp_path)
    assert published.calls == [("albert-base-v2", "paddlenlp", None)]
    assert f"fetched albert-base-v2 into {published.folder}" in outcome.err
    assert "albert-base-v2: PaddleNLP weights " in outcome.err and "task model" in outcome.err
    assert (requests[0].source.config, requests[0].stem) == (tiny, "albert-base-v2")
    run(small_variant, "-o", tmp_path, "--source", "huggingface", "--revision", "abc")
    assert published.calls[1] == ("albert-base-v2", "huggingface", "abc")


def test_published_weights_of_another_model(
    run, tmp_path, published, small_variant, write_checkpoint, tiny, tiny_tensors
):
    write_checkpoint(published.folder, replace(tiny, hidden_act="relu"), tiny_tensors)
    outcome = run(small_variant, "-o", tmp_path, "--quiet")
    assert "is not albert-base-v2: hidden_act 'relu' instead of 'gelu_new'" in one_line_error(outcome)


def test_nothing_is_fetched_in_vain(run, tmp_path, published, monkeypatch):
    (tmp_path / "albert-base-v2.onnx").touch()
    assert "exists; replace" in run("albert-base-v2", "-o", tmp_path).err
    run("albert-base-v2", "--name", "a/b")
    run("albert-base-v2", "--random-weights", "--revision", "x")
    monkeypatch.setattr("albert_export.cli.importlib.util.find_spec", lambda name: None)
    assert "not installed" in run("albert-base-v2").err
    assert not published.calls
