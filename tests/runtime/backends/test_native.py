"""The native backend: engines shared within a process, weights checked before they are packed."""

import gc
import multiprocessing
import shutil
import threading

import numpy as np
import pytest

from albert_runtime import Predictor, _native
from albert_runtime.backends import native
from albert_runtime.errors import ArtifactError, BackendError

BATCH = [[5, 6, 7, 8], [9], [4, 3, 2]]


@pytest.fixture
def builds(monkeypatch):
    """The weight files that engines were built from."""
    built = []
    engine = _native.Engine

    def build(path, *arguments, **options):
        built.append(path)
        return engine(path, *arguments, **options)

    gc.collect()
    monkeypatch.setattr(_native, "Engine", build)
    return built


def test_copies_of_an_artifact_share_one_engine(make_artifact, tmp_path, builds):
    manifest = make_artifact()
    shutil.copytree(manifest.parent, tmp_path / "copy")
    first = Predictor(manifest, backend="native")
    second = Predictor(tmp_path / "copy", backend="native", num_threads=1)
    assert len(builds) == 1
    for name, values in first.run(BATCH).items():
        np.testing.assert_array_equal(values, second.run(BATCH)[name])
    del first, second
    gc.collect()
    Predictor(manifest, backend="native")
    assert len(builds) == 2  # nothing keeps an engine that no Predictor uses


def test_another_config_on_the_same_weights_is_another_engine(make_artifact, tmp_path, builds):
    tanh = Predictor(make_artifact(folder=tmp_path / "tanh"), backend="native")
    relu = Predictor(make_artifact(folder=tmp_path / "relu", hidden_act="relu"), backend="native")
    assert tanh.manifest.files["weights"].sha256 == relu.manifest.files["weights"].sha256
    assert len(builds) == 2
    assert np.abs(tanh.run(BATCH)["pooled_output"] - relu.run(BATCH)["pooled_output"]).max() > 1e-4


def test_each_isa_has_its_engine(make_artifact, monkeypatch, builds):
    manifest = make_artifact()
    answers = {}
    for isa in _native.isas():
        monkeypatch.setenv("ALBERT_FORCE_ISA", isa)
        predictor = Predictor(manifest, backend="native")
        assert predictor.info()["isa"] == isa
        answers[isa] = predictor.run(BATCH)
    assert len(builds) == len(answers)
    for name in ("last_hidden_state", "pooled_output"):
        for isa, answer in answers.items():
            np.testing.assert_array_equal(answer[name], answers["generic"][name], err_msg=f"{isa} {name}")


def test_an_unknown_isa(make_artifact, monkeypatch):
    monkeypatch.setenv("ALBERT_FORCE_ISA", "mmx")
    with pytest.raises(BackendError, match="mmx"):
        Predictor(make_artifact(), backend="native")


def test_threads_that_load_at_once_build_once(make_artifact, builds):
    manifest = make_artifact()
    barrier = threading.Barrier(8)
    predictors = []

    def load():
        barrier.wait()
        predictors.append(Predictor(manifest, backend="native"))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(predictors) == 8
    assert len(builds) == 1


def test_a_flipped_bit_is_found_before_packing(make_artifact, monkeypatch):
    monkeypatch.setenv("ALBERT_PACKED_CACHE", "0")
    manifest = make_artifact()
    path = manifest.with_name("tiny.pdiparams")
    raw = bytearray(path.read_bytes())
    raw[-10] ^= 4
    path.write_bytes(raw)
    for backend in ("native", "auto"):
        with pytest.raises(
            ArtifactError, match=r"tiny\.pdiparams is corrupted \(sha256 .*restore it or export"
        ):
            Predictor(manifest, backend=backend)


def test_weights_lost_after_opening(make_artifact, monkeypatch):
    manifest = make_artifact()

    def lose():
        manifest.with_name("tiny.pdiparams").unlink()
        return "generic"

    monkeypatch.setattr(_native, "default_isa", lose)
    with pytest.raises(ArtifactError, match=r"tiny\.pdiparams: the C\+\+ engine cannot load it"):
        Predictor(manifest, backend="native")


def answer_in_child(predictor, queue):
    queue.put(predictor.run(BATCH)["pooled_output"])
    queue.put(Predictor(predictor.info()["files"]["weights"].replace("pdiparams", "onnx")).backend)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_answers_and_loads(make_artifact):
    predictor = Predictor(make_artifact(), backend="native")
    expected = predictor.run(BATCH)["pooled_output"]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    with native._lock:  # as if another thread were packing at the time of the fork
        child = context.Process(target=answer_in_child, args=(predictor, queue))
        child.start()
    np.testing.assert_array_equal(queue.get(timeout=30), expected)
    assert queue.get(timeout=30) == "native"
    child.join(30)
    assert child.exitcode == 0
