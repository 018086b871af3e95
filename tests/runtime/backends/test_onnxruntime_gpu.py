"""TensorRT and CUDA where there is no GPU: the driver and ONNX Runtime are faked at their boundaries.

Outputs are real; what the tests look at is the choice, the shapes, the settings, the engine folder and the
refusals.
"""

import json
import logging
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from albert_runtime import BackendError, Predictor
from albert_runtime.artifact.artifact import Artifact
from albert_runtime.backends import cuda, nvidia, tensorrt
from albert_runtime.backends.registry import NAMES
from albert_runtime.backends.tensorrt import PROVIDER
from albert_runtime.backends.tensorrt_engine import NOTE, EngineFolder, Profile

ROWS = [[5, 6, 7], [8, 9], [10, 11, 12, 13, 14], [3]]


@pytest.fixture(scope="module")
def program(export_artifact, golden):
    return export_artifact(golden / "model-gelu")


@pytest.fixture(scope="module")
def choice_program(export_artifact, golden):
    return export_artifact(golden / "multiple-choice")


# The driver


def test_a_gpu_is_described(driver):
    assert nvidia.find_gpu() == nvidia.Gpu("NVIDIA H100", (9, 0), (12, 4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": 100}, r"no NVIDIA GPU here: the driver sees none .status 100"),
        ({"devices": 0}, "no NVIDIA GPU here: the driver sees none"),
        ({"version": 11040}, r"the NVIDIA driver is too old: it offers CUDA 11.4, 12.0 is needed; update it"),
    ],
)
def test_drivers_that_are_of_no_use(driver, changes, message):
    for name, value in changes.items():
        setattr(driver, name, value)
    with pytest.raises(BackendError, match=message):
        nvidia.find_gpu()


def test_without_a_driver_nothing_is_imported(program, no_driver, monkeypatch, caplog):
    """The fallback: auto ends on the CPU engine, says why in one line each, and imports no runtime."""
    for name in ("onnxruntime", "tensorrt", "torch", "triton", "cupy"):
        monkeypatch.setitem(sys.modules, name, None)  # an import would fail in another way
    with caplog.at_level(logging.INFO, "albert_runtime"):
        predictor = Predictor(program)
    assert predictor.backend == "native"
    reason = "no NVIDIA GPU here: its driver's libcuda.so.none is not installed"
    assert predictor.info()["skipped"] == {"tensorrt": reason, "gpu": reason, "cuda": reason}
    assert [record.getMessage() for record in caplog.records] == [
        f"model-gelu: not on {name}: {reason}" for name in ("tensorrt", "gpu", "cuda")
    ]


@pytest.mark.parametrize("name", ["tensorrt", "cuda"])
def test_a_gpu_asked_for_by_name_is_demanded(program, no_driver, name):
    with pytest.raises(BackendError, match="no NVIDIA GPU here"):
        Predictor(program, backend=name)


# CUDA


def test_auto_takes_cuda_where_no_engine_is_built(program, runtime):
    predictor = Predictor(program)
    assert predictor.backend == "cuda" and predictor.info()["gpu"] == "NVIDIA H100"
    assert (
        "no TensorRT engine is built for model-gelu on NVIDIA H100" in predictor.info()["skipped"]["tensorrt"]
    )
    assert runtime.sessions == [[("CUDAExecutionProvider", {"device_id": "0"}), "CPUExecutionProvider"]]
    assert runtime.preloaded >= 1
    expected = Predictor(program, backend="native").run(ROWS)
    for name, values in predictor.run(ROWS).items():
        np.testing.assert_allclose(values, expected[name], atol=2e-5)


def test_another_precision_than_the_artifacts_stays_on_the_engine(program, runtime):
    predictor = Predictor(program, precision="int8")
    assert predictor.backend == "native" and not runtime.sessions


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"available": ["CPUExecutionProvider"]},
            r"has no CUDAExecutionProvider; pip uninstall -y onnxruntime, then pip install 'albert-runt",
        ),
        (
            {"loads": False},
            r"could not load its CUDAExecutionProvider on NVIDIA H100: .* the driver's CUDA 12\.4; pip",
        ),
    ],
)
def test_runtimes_that_cannot_use_the_gpu(program, runtime, change, message):
    vars(runtime).update(change)
    with pytest.raises(BackendError, match=message):
        Predictor(program, backend="cuda")
    assert Predictor(program).backend == "native"


def test_two_runtimes_at_once(program, runtime, monkeypatch):
    runtime.available = ["CPUExecutionProvider"]
    monkeypatch.setattr(cuda, "_installed", lambda name: True)
    with pytest.raises(BackendError, match="are both installed and overwrite each other; pip uninstall -y"):
        Predictor(program, backend="cuda")


# TensorRT


def test_an_engine_is_built_once_and_then_taken_by_auto(program, runtime, caplog):
    built = Predictor(program, backend="tensorrt", max_batch=4, max_length=32)
    assert "building a TensorRT engine for model-gelu on NVIDIA H100" in caplog.text
    name, settings = runtime.sessions[0][0]
    assert name == PROVIDER and runtime.sessions[0][1][0] == "CUDAExecutionProvider"
    folder = built.info()["engine_folder"]
    assert settings["trt_engine_cache_path"] == settings["trt_timing_cache_path"] == folder
    assert settings["trt_fp16_enable"] == settings["trt_int8_enable"] == "False"
    assert settings["trt_profile_min_shapes"] == "input_ids:1x1,attention_mask:1x1,token_type_ids:1x1"
    assert settings["trt_profile_opt_shapes"].startswith("input_ids:4x16,")
    assert settings["trt_profile_max_shapes"].startswith("input_ids:4x32,")
    checked = len(runtime.shapes)
    assert checked >= 1  # several rows, against the CPU engine

    again = Predictor(program, max_batch=4, max_length=32)
    assert again.backend == "tensorrt" and again.info()["skipped"] == {}
    assert len(runtime.shapes) == checked  # not checked again
    # An engine of other shapes is another engine.
    assert Predictor(program, max_batch=8, max_length=32).backend == "cuda"


def test_build_moves_a_predictor(program, runtime):
    predictor = Predictor(program)
    assert predictor.backend == "cuda"
    predictor.build()
    assert predictor.backend == "tensorrt" == Predictor(program).backend


def test_passes_have_few_shapes(program, runtime):
    predictor = Predictor(program, backend="tensorrt", max_batch=3, max_length=40)
    runtime.shapes.clear()
    expected = Predictor(program, backend="native")
    for rows in (ROWS, [[7] * 17, [8] * 40, [9] * 3], [[4] * 20]):
        answer = predictor.run(rows)
        for name, values in expected.run(rows).items():
            assert answer[name].shape == values.shape
            np.testing.assert_allclose(answer[name], values, atol=2e-5)
    assert set(runtime.shapes) <= {(rows, width) for rows in (1, 2, 3) for width in (16, 32, 40)}
    with pytest.raises(
        BackendError, match="a row has 41 tokens, this TensorRT engine takes 40; build one with max_"
    ):
        predictor.run([[5] * 41])


def first_row_only(values):
    """What TensorRT 8 made of an ALBERT."""
    values = values.copy()
    values[1:] = np.nan
    return values


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (first_row_only, "last_hidden_state is not finite in row 1"),
        (lambda values: values[..., ::-1].copy(), r"last_hidden_state is off in row 0: cosine"),
    ],
)
def test_an_engine_that_gives_wrong_answers_is_disabled_loudly(program, runtime, caplog, spoil, reason):
    runtime.spoil = spoil
    with pytest.raises(BackendError, match=reason):
        Predictor(program, backend="tensorrt")
    runtime.spoil = lambda values: values
    assert [record.levelname for record in caplog.records][-1] == "ERROR"
    # For good, until versions change or the folder goes: by auto, which takes CUDA, and by name.
    predictor = Predictor(program)
    assert predictor.backend == "cuda" and "must not be used" in predictor.info()["skipped"]["tensorrt"]
    with pytest.raises(BackendError, match="must not be used"):
        Predictor(program, backend="tensorrt")


def test_a_damaged_note_means_not_built(program, runtime):
    folder = Predictor(program, backend="tensorrt").info()["engine_folder"]
    Path(folder, NOTE).write_text("{")
    assert Predictor(program).backend == "cuda"
    Predictor(program, backend="tensorrt")
    assert json.loads(Path(folder, NOTE).read_text())["state"] == "built"


def test_the_folder_is_named_by_what_an_engine_depends_on(program):
    manifest = Artifact.open(program).manifest
    card, profile = nvidia.Gpu("NVIDIA H100", (9, 0), (12, 4)), Profile(32, 512)
    versions = {"onnxruntime": "1.32.0", "tensorrt": "10.9"}
    onnx = replace(manifest.files["onnx"], sha256="0" * 64)
    weights = replace(manifest.files["weights"], sha256="0" * 64)
    folders = [
        EngineFolder(manifest, "onnx", card, versions, profile),
        EngineFolder(manifest, "onnx", replace(card, name="NVIDIA L4"), versions, profile),
        EngineFolder(manifest, "onnx", replace(card, cuda=(13, 0)), versions, profile),
        EngineFolder(manifest, "onnx", card, {**versions, "onnxruntime": "1.33.0"}, profile),
        EngineFolder(manifest, "onnx", card, {**versions, "tensorrt": "11.0"}, profile),
        EngineFolder(manifest, "onnx", card, versions, Profile(16, 512)),
        EngineFolder(manifest, "program", card, versions, profile),
        EngineFolder(
            replace(manifest, files={**manifest.files, "onnx": onnx}), "onnx", card, versions, profile
        ),
        EngineFolder(
            replace(manifest, files={**manifest.files, "weights": weights}), "onnx", card, versions, profile
        ),
    ]
    hostile = EngineFolder(replace(manifest, name="../../up"), "onnx", card, versions, profile)
    assert hostile.path.parent == folders[0].path.parent
    names = {folder.path.name for folder in folders}
    assert len(names) == 9 and all(name.startswith("model-gelu-") for name in names)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [(512, {1: 16, 16: 16, 17: 32, 100: 128, 257: 512, 512: 512}), (100, {65: 100, 100: 100}), (8, {3: 8})],
)
def test_widths(columns, expected):
    assert {width: Profile(32, columns).width(width) for width in expected} == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_batch": 0}, "max_batch is 0; give a whole number from 1 to 4096"),
        ({"max_batch": 2.0}, "max_batch is 2.0"),
        ({"max_length": 65}, "max_length is 65; give a whole number from 1 to 64"),
    ],
)
def test_bad_sizes(program, runtime, arguments, message):
    with pytest.raises(BackendError, match=message):
        Predictor(program, backend="tensorrt", **arguments)


def test_int8_and_fp16_artifacts_enable_their_types(export_artifact, golden):
    for precision, flags in (("fp16", ("True", "False")), ("bf16", ("False", "False"))):
        manifest = Artifact.open(export_artifact(golden / "model-gelu", precision=precision)).manifest
        backend = object.__new__(tensorrt.TensorRtBackend)
        backend.folder, backend.profile = types.SimpleNamespace(path="f"), Profile(2, 16)
        settings = backend.settings(manifest)
        assert (settings["trt_fp16_enable"], settings["trt_int8_enable"]) == flags
        assert settings["trt_bf16_enable"] == str(precision == "bf16")


def test_multiple_choice_takes_questions_of_any_number_of_choices(choice_program, runtime):
    predictor = Predictor(choice_program, backend="tensorrt", max_batch=20, max_length=32)
    settings = runtime.sessions[0][0][1]
    assert settings["trt_profile_min_shapes"].startswith("input_ids:1x1x1,")
    assert settings["trt_profile_opt_shapes"].startswith("input_ids:2x4x16,")
    assert settings["trt_profile_max_shapes"].startswith("input_ids:2x8x32,")
    runtime.shapes.clear()
    for choices in (1, 2, 8):
        questions = [[ROWS[(row + choice) % 4] for choice in range(choices)] for row in range(3)]
        expected = Predictor(choice_program, backend="native").run(questions)["logits"]
        np.testing.assert_allclose(predictor.run(questions)["logits"], expected, atol=2e-5)
    assert runtime.shapes == [(rows, choices, 16) for choices in (1, 2, 8) for rows in (2, 1)]
    with pytest.raises(BackendError, match="a question has 9 choices, a TensorRT engine takes 8; use"):
        predictor.run([[[5]] * 9])


# Devices


def test_a_device_leaves_what_runs_there(program, runtime):
    assert Predictor(program, device="cpu").backend == "native" and not runtime.sessions
    assert Predictor(program, device="gpu").backend == "cuda"


def test_a_device_asked_for_is_not_left(program, no_driver):
    with pytest.raises(BackendError, match=r"no backend can run model-gelu: tensorrt: .*; paddle: no NVIDIA"):
        Predictor(program, device="gpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "cuda:1"}, "device 'cuda:1' is unknown; choose one of auto, cpu, gpu"),
        (
            {"backend": "native", "device": "gpu"},
            "native does not run on device 'gpu'; choose one of tensorrt, gpu, cuda, paddle",
        ),
        (
            {"backend": "cuda", "device": "cpu"},
            "cuda does not run on device 'cpu'; choose one of native, onnxruntime, paddle",
        ),
    ],
)
def test_devices_that_do_not_fit(program, arguments, message):
    with pytest.raises(BackendError, match=message):
        Predictor(program, **arguments)


def test_the_order():
    assert NAMES == ("tensorrt", "gpu", "cuda", "native", "onnxruntime", "paddle")
