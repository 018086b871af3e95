"""Paddle Inference on a GPU that is faked at its boundary: the settings it is given, and its tensorrt_engine.

The program itself runs on the CPU.
"""

import sys
import warnings

import numpy as np
import pytest

from albert_runtime import BackendError, Predictor
from albert_runtime.backends import tensorrt_engine
from albert_runtime.backends.tensorrt_engine import NOTE

ROWS = [[5, 6, 7], [8, 9], [10, 11, 12, 13, 14], [3]]


@pytest.fixture(scope="module")
def program(export_artifact, golden):
    return export_artifact(golden / "model-gelu")


@pytest.fixture
def settings(monkeypatch, driver, tmp_path):
    """The calls that a paddlepaddle-gpu with TensorRT 10.5 would get."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # importing paddle warns of compilers it does not find
        paddle = pytest.importorskip("paddle")
        inference = pytest.importorskip("paddle.inference")

    calls = {}

    class Config(inference.Config):
        def enable_use_gpu(self, *arguments):
            calls["gpu"] = arguments

        def enable_tensorrt_engine(self, **arguments):
            calls["tensorrt"] = arguments

        def set_trt_dynamic_shape_info(self, *shapes):
            calls["shapes"] = shapes

    monkeypatch.setattr(inference, "Config", Config)
    monkeypatch.setattr(inference, "get_trt_runtime_version", lambda: (10, 5, 0))
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return calls


def test_an_engine_is_built_and_checked_once(program, settings, caplog):
    predictor = Predictor(program, backend="paddle", device="gpu", max_batch=4, max_length=32)
    assert "building a TensorRT engine for model-gelu on NVIDIA H100" in caplog.text
    assert settings["gpu"][1] == 0
    assert settings["tensorrt"]["use_static"] and not settings["tensorrt"]["use_calib_mode"]
    assert settings["tensorrt"]["max_batch_size"] == 4
    names = ("input_ids", "attention_mask", "token_type_ids")
    assert settings["shapes"] == tuple(
        {name: shape for name in names} for shape in ([1, 1], [4, 32], [4, 16])
    )
    info = predictor.info()
    assert info["gpu"] == "NVIDIA H100" and info["engine_folder"]
    expected = Predictor(program, backend="native").run(ROWS)
    for name, values in predictor.run(ROWS).items():
        np.testing.assert_allclose(values, expected[name], atol=2e-5)
    with pytest.raises(BackendError, match="a row has 33 tokens, this TensorRT engine takes 32"):
        predictor.run([[5] * 33])
    caplog.clear()
    Predictor(program, backend="paddle", device="gpu", max_batch=4, max_length=32)
    assert not caplog.text


def test_an_engine_that_gives_wrong_answers_is_left_out(program, settings, monkeypatch, caplog):

    monkeypatch.setattr(tensorrt_engine, "difference", lambda *answers: "last_hidden_state is off in row 1")
    with pytest.raises(BackendError, match="gives wrong answers: last_hidden_state is off in row 1"):
        Predictor(program, backend="paddle", device="gpu")
    settings.clear()
    predictor = Predictor(program, backend="paddle", device="gpu")
    assert "tensorrt" not in settings and "gpu" in settings
    assert "Paddle runs without TensorRT: its engine is refused" in caplog.text
    assert predictor.info()["engine_folder"] is None


def test_auto_builds_none(program, settings, monkeypatch, tmp_path):
    """The last resort on a GPU where no onnxruntime-gpu is installed."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    predictor = Predictor(program, device="gpu")
    assert predictor.backend == "paddle" and "tensorrt" not in settings
    assert not list(tmp_path.rglob(NOTE))


def test_programs_in_json_run_without_tensorrt(export_artifact, golden, settings):
    program = export_artifact(golden / "model-gelu", format="json")
    Predictor(program, backend="paddle", device="gpu").run(ROWS)
    assert "tensorrt" not in settings and "gpu" in settings


def test_the_build_for_cpus(program, driver):
    with pytest.raises(BackendError, match="the installed paddlepaddle is the build for CPUs"):
        Predictor(program, backend="paddle", device="gpu")


def test_no_gpu(program, no_driver):
    with pytest.raises(BackendError, match="no NVIDIA GPU here"):
        Predictor(program, backend="paddle", device="gpu")
    assert Predictor(program, backend="paddle").run(ROWS)
