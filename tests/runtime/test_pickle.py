"""A Predictor in a pickle is its absolute path and its options, and loads again where it is read."""

import copy
import multiprocessing
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
import pytest

from albert_runtime import ArtifactError, Predictor
from albert_runtime.scheduler.scheduler import Scheduler

TEXTS = ["a b c", "c"]
OPTIONS = {
    "backend": "native",
    "precision": "int8",
    "device": "cpu",
    "num_threads": 1,
    "max_batch_tokens": 64,
    "max_queue": 7,
    "max_queue_delay": 0.5,
    "scheduler": partial(Scheduler, patience=0),
}


@pytest.fixture
def path(make_artifact, tokenizer_file):
    return make_artifact(tokenizer=tokenizer_file)


def pooled(predictor, texts):
    return predictor.run(texts)["pooled_output"]


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_path_and_options(path, again):
    predictor = Predictor(path, **OPTIONS)
    found = again(predictor)
    assert found is not predictor and found.info() == predictor.info()
    np.testing.assert_array_equal(pooled(found, TEXTS), pooled(predictor, TEXTS))
    queue = found.scheduler._queue
    assert (queue.max_requests, queue.max_tokens, queue.patience, found.scheduler._delay) == (7, 64, 0, 0.5)


def test_it_is_small_and_holds_no_weights(path):
    assert len(pickle.dumps(Predictor(path))) < 1000


@pytest.mark.parametrize("given", ["artifact", "artifact/tiny", "artifact/tiny.onnx"])
def test_a_relative_path(path, monkeypatch, tmp_path, given):
    monkeypatch.chdir(tmp_path)
    stored = pickle.dumps(Predictor(given, backend="native"))
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert pickle.loads(stored).info()["files"]["weights"] == str(path.with_name("tiny.pdiparams"))


def test_a_second_artifact_in_the_folder_does_not_matter(path, make_artifact):
    stored = pickle.dumps(Predictor(path.parent, backend="native"))
    make_artifact("other", folder=path.parent)
    assert pickle.loads(stored).manifest.name == "tiny"


def test_a_program_without_a_manifest(golden, tmp_path):
    pytest.importorskip("onnxruntime")
    for suffix in (".onnx", ".pdiparams"):
        shutil.copy(golden.parent / "artifacts" / "schema-1" / f"tiny{suffix}", tmp_path)
    predictor = Predictor(tmp_path / "tiny.onnx", backend="onnxruntime")
    again = pickle.loads(pickle.dumps(predictor))
    assert again.manifest is None
    np.testing.assert_array_equal(pooled(again, [[2, 5, 3]]), pooled(predictor, [[2, 5, 3]]))


def test_an_artifact_that_is_gone(path):
    stored = pickle.dumps(Predictor(path, backend="native"))
    shutil.rmtree(path.parent)
    with pytest.raises(ArtifactError, match=r"tiny\.manifest\.json does not exist"):
        pickle.loads(stored)


def test_spawned_processes(path):
    predictor = Predictor(path, backend="native")
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        answers = list(pool.map(pooled, [predictor] * 2, [TEXTS, TEXTS[:1]]))
    np.testing.assert_array_equal(answers[0], pooled(predictor, TEXTS))
    np.testing.assert_array_equal(answers[1], pooled(predictor, TEXTS[:1]))


def test_joblibs_processes(path):
    joblib = pytest.importorskip("joblib")
    predictor = Predictor(path, backend="native")
    run = joblib.Parallel(n_jobs=2, backend="loky")
    for answer in run(joblib.delayed(predictor.run)(TEXTS) for _ in range(2)):
        np.testing.assert_array_equal(answer["pooled_output"], pooled(predictor, TEXTS))
