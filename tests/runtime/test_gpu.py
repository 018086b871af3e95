"""TensorRT and CUDA where there is no GPU: the driver and ONNX Runtime are faked at their boundaries.

The fake session answers with ONNX Runtime's own CPU provider, so outputs are real; what the tests look at is
the choice, the shapes, the settings, the engine folder and the refusals.
"""

import ctypes
import json
import logging
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from albert_runtime import BackendError, Predictor
from albert_runtime.artifact import Artifact
from albert_runtime.backends import NAMES, cuda, gpu, tensorrt
from albert_runtime.backends.tensorrt import NOTE, PROVIDER, Profile, key

ROWS = [[5, 6, 7], [8, 9], [10, 11, 12, 13, 14], [3]]


class Driver:
    """libcuda.so.1 of a machine with one H100."""

    status, devices, version = 0, 1, 12040

    def cuInit(self, flags):
        return self.status

    def cuDeviceGetCount(self, count):
        count._obj.value = self.devices
        return 0

    def cuDriverGetVersion(self, version):
        version._obj.value = self.version
        return 0

    def cuDeviceGet(self, device, ordinal):
        return 0

    def cuDeviceGetName(self, name, size, device):
        name.value = b"NVIDIA H100"
        return 0

    def cuDeviceGetAttribute(self, value, which, device):
        value._obj.value = {75: 9, 76: 0}[which]
        return 0


@pytest.fixture
def driver(monkeypatch):
    """A driver in place of libcuda.so.1."""
    fake, real = Driver(), ctypes.CDLL
    monkeypatch.setattr(ctypes, "CDLL", lambda name, *more: fake if name == gpu.DRIVER else real(name, *more))
    return fake


@pytest.fixture
def no_driver(monkeypatch):
    """A machine without an NVIDIA driver, whatever this one has."""
    monkeypatch.setattr(gpu, "DRIVER", "libcuda.so.none")


class Binding:
    def __init__(self):
        self.inputs, self.outputs, self.results = {}, [], []

    def bind_cpu_input(self, name, values):
        self.inputs[name] = values

    def bind_output(self, name, device):
        assert device == "cuda"
        self.outputs.append(name)

    def copy_outputs_to_cpu(self):
        return self.results


class Runtime(types.ModuleType):
    """onnxruntime-gpu, as far as it is used, and what was done with it."""

    def __init__(self):
        super().__init__("onnxruntime")
        self.__version__ = onnxruntime.__version__
        self.available = [PROVIDER, "CUDAExecutionProvider", "CPUExecutionProvider"]
        self.loads = True  # whether the providers' libraries do
        self.spoil = lambda values: values
        self.sessions, self.shapes, self.preloaded = [], [], 0
        self.SessionOptions = onnxruntime.SessionOptions

    def get_available_providers(self):
        return self.available

    def preload_dlls(self):
        self.preloaded += 1

    def InferenceSession(self, path, options, providers):
        self.sessions.append(providers)
        runtime, inner = self, onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

        class Session:
            get_inputs, get_outputs = inner.get_inputs, inner.get_outputs

            def get_providers(self):
                names = [provider[0] for provider in providers[:-1]]
                return [*(names if runtime.loads else []), "CPUExecutionProvider"]

            def io_binding(self):
                return Binding()

            def run_with_iobinding(self, binding):
                runtime.shapes.append(binding.inputs["input_ids"].shape)
                found = inner.run(binding.outputs, binding.inputs)
                binding.results = [runtime.spoil(values) for values in found]

        return Session()


@pytest.fixture
def runtime(monkeypatch, driver, tmp_path):
    """A machine with a GPU, TensorRT and an empty folder of engines."""
    fake = Runtime()
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    monkeypatch.setitem(sys.modules, "tensorrt", types.ModuleType("tensorrt"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return fake


@pytest.fixture(scope="module")
def program(export_artifact, golden):
    return export_artifact(golden / "model-gelu")


# The driver


def test_a_gpu_is_described(driver):
    assert gpu.find_gpu() == gpu.Gpu("NVIDIA H100", (9, 0), (12, 4))


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
        gpu.find_gpu()


def test_without_a_driver_nothing_is_imported(program, no_driver, monkeypatch, caplog):
    """The fallback: auto ends on the CPU engine, says why in one line each, and imports no runtime."""
    for name in ("onnxruntime", "tensorrt", "torch", "cupy"):
        monkeypatch.setitem(sys.modules, name, None)  # an import would fail in another way
    with caplog.at_level(logging.INFO, "albert_runtime"):
        predictor = Predictor(program)
    assert predictor.backend == "native"
    reason = "no NVIDIA GPU here: its driver's libcuda.so.none is not installed"
    assert predictor.info()["skipped"] == {"tensorrt": reason, "cuda": reason}
    assert [record.getMessage() for record in caplog.records] == [
        f"model-gelu: not on {name}: {reason}" for name in ("tensorrt", "cuda")
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
            "could not load its CUDAExecutionProvider on NVIDIA H100: a CUDA library is missing",
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


def test_the_key_holds_what_an_engine_depends_on(program, monkeypatch):
    manifest = Artifact.open(program).manifest
    card = gpu.Gpu("NVIDIA H100", (9, 0), (12, 4))
    profile = Profile(32, 512)
    keys = {
        key(manifest, card, "1.32.0", profile),
        key(manifest, replace(card, name="NVIDIA L4"), "1.32.0", profile),
        key(manifest, replace(card, cuda=(13, 0)), "1.32.0", profile),
        key(manifest, card, "1.33.0", profile),
        key(manifest, card, "1.32.0", Profile(16, 512)),
    }
    onnx = replace(manifest.files["onnx"], sha256="0" * 64)
    keys.add(key(replace(manifest, files={**manifest.files, "onnx": onnx}), card, "1.32.0", profile))
    monkeypatch.setattr(tensorrt, "_tensorrt_version", lambda: "11.0")
    keys.add(key(manifest, card, "1.32.0", profile))
    assert len(keys) == 7 and all(name.startswith("model-gelu-") for name in keys)


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
        backend.folder, backend.profile = "f", Profile(2, 16)
        settings = backend.settings(manifest)
        assert (settings["trt_fp16_enable"], settings["trt_int8_enable"]) == flags
        assert settings["trt_bf16_enable"] == str(precision == "bf16")


def test_the_order():
    assert NAMES == ("tensorrt", "cuda", "native", "onnxruntime", "paddle")
