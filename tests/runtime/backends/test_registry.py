"""The choice among backends, what they say when they cannot run, and the work the padded ones share."""

import importlib
import sys
import types
from dataclasses import replace

import numpy as np
import pytest

from albert_runtime.artifact.artifact import Artifact
from albert_runtime.backends import nvidia
from albert_runtime.backends.base import Options, OwnProcess, check_inputs, one_line
from albert_runtime.backends.padded import DEFAULT_TOKENS_PER_PASS, PaddedBackend
from albert_runtime.backends.registry import NAMES, choose
from albert_runtime.batch.pack import pack
from albert_runtime.batch.packed import ModelLimits
from albert_runtime.errors import ArtifactError, BackendError
from albert_runtime.threads import available_cpus

FP32 = Options(1, "fp32")


class Echo(PaddedBackend):
    """hidden[b, t] = (id, type, 7), pooled[b] = (sum of unmasked ids, id at position 0)."""

    name = "echo"
    process = OwnProcess("echo")
    outputs = ("hidden", "pooled")

    def __init__(self):
        self.shapes = []

    def forward(self, inputs, outputs):
        ids, mask, types = (inputs[name] for name in ("input_ids", "attention_mask", "token_type_ids"))
        self.shapes.append(ids.shape)
        values = {
            "hidden": np.stack([ids, types, np.full_like(ids, 7)], axis=2).astype(np.float64),
            "pooled": np.stack([(ids * mask).sum(axis=1), ids[:, 0]], axis=1).astype(np.float32),
            "scalar": np.float32(3),
            "flat": ids.astype(np.float32),
        }
        return [values[name] for name in outputs]

    def info(self):
        return {}


@pytest.mark.parametrize("rows", [1, 3, 500])
def test_padded_outputs_are_zero_where_masked(rows):
    generator = np.random.default_rng(rows)
    ids = generator.integers(1, 50, (rows, 40))
    mask = generator.integers(0, 2, (rows, 40))
    mask[:, 20] = 1
    mask[:, 30:] = 0
    backend = Echo()
    packed = pack({"input_ids": ids, "attention_mask": mask, "token_type_ids": ids % 2}, ModelLimits())
    results = backend.run(packed, ("pooled", "hidden"))
    assert list(results) == ["pooled", "hidden"]
    expected = np.stack([ids, ids % 2, np.full_like(ids, 7)], axis=2) * mask[:, :, None]
    np.testing.assert_array_equal(results["hidden"], expected)
    np.testing.assert_array_equal(results["pooled"], np.stack([(ids * mask).sum(axis=1), ids[:, 0]], axis=1))
    for values in results.values():
        assert values.dtype == np.float32
        assert values.flags.c_contiguous
        assert values.flags.writeable
    assert all(count * width <= DEFAULT_TOKENS_PER_PASS and width <= 30 for count, width in backend.shapes)


def test_every_pass_is_as_wide_as_its_longest_row():
    backend = Echo()
    rows = DEFAULT_TOKENS_PER_PASS // 8
    backend.run(pack([[5] * 4] * rows + [[5] * 8], ModelLimits()), ("pooled",))
    assert backend.shapes == [(rows, 4), (1, 8)]


def test_an_output_that_is_not_per_row():
    with pytest.raises(
        BackendError, match=r"output scalar has shape .* for 1 rows; it is not one result a row"
    ):
        Echo().run(pack([[5]], ModelLimits()), ("scalar",))


def test_an_unknown_output_as_wide_as_its_rows(monkeypatch):
    monkeypatch.setattr(PaddedBackend, "tokens_per_pass", 1)
    packed = pack([[5], [6, 7]], ModelLimits())
    with pytest.raises(BackendError, match=r"output flat has shape \(1, 2\), as wide as its rows; run"):
        Echo().run(packed, ("flat",))


def test_programs_with_other_inputs_are_refused():
    with pytest.raises(BackendError, match="x has the inputs input_ids, attention_mask, not input_ids"):
        check_inputs(["input_ids", "attention_mask"], "x")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "ValueError"),
        ("\n  first \n second", "first"),
        ("stack\nstack\nValueError: telling\n  [hint]", "ValueError: telling"),
        ("x" * 1000, "x" * 297 + "..."),
    ],
)
def test_one_line(text, line):
    assert one_line(ValueError(text)) == line


@pytest.fixture
def artifact(make_artifact):
    return Artifact.open(make_artifact())


def forget(monkeypatch, name):
    """As if the package were not installed."""
    for module in [module for module in sys.modules if module == name or module.startswith(f"{name}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)


def break_native(monkeypatch):
    monkeypatch.delitem(sys.modules, "albert_runtime.backends.native", raising=False)
    monkeypatch.setitem(sys.modules, "albert_runtime._native", None)
    monkeypatch.delattr("albert_runtime._native", raising=False)


def test_auto_takes_the_engine_where_there_is_no_gpu(artifact, monkeypatch):
    monkeypatch.setattr(nvidia, "DRIVER", "libcuda.so.none")
    backend, skipped = choose("auto", artifact, FP32)
    assert backend.name == "native"
    assert list(skipped) == ["tensorrt", "gpu", "cuda"]
    assert all(reason.startswith("no NVIDIA GPU here: ") for reason in skipped.values())


def test_unknown_names(artifact):
    with pytest.raises(
        BackendError,
        match="backend 'tpu' is unknown; choose one of auto, tensorrt, gpu, cuda, native, onnxruntime",
    ):
        choose("tpu", artifact, FP32)


@pytest.mark.parametrize(
    ("name", "package", "message"),
    [
        (
            "onnxruntime",
            "onnxruntime",
            "the package onnxruntime is not installed; pip install 'albert-runtime.onnx.'",
        ),
        ("paddle", "paddle", "the package paddle is not installed; pip install 'albert-runtime.paddle.'"),
    ],
)
def test_a_missing_package_says_how_to_install_it(artifact, monkeypatch, name, package, message):
    forget(monkeypatch, package)
    with pytest.raises(BackendError, match=message):
        choose(name, artifact, FP32)


def test_a_missing_extension(artifact, monkeypatch):
    break_native(monkeypatch)
    with pytest.raises(
        BackendError, match=r"the compiled extension does not load .*--force-reinstall albert-runtime"
    ):
        choose("native", artifact, FP32)
    assert available_cpus() >= 1


def test_a_package_that_does_not_load(artifact, monkeypatch, tmp_path):
    (tmp_path / "onnxruntime.py").write_text(
        "raise OSError('libgomp.so.1: cannot open shared object file\\nmore')"
    )
    forget(monkeypatch, "onnxruntime")
    monkeypatch.delitem(sys.modules, "onnxruntime")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with pytest.raises(
        BackendError, match=r"onnxruntime does not load \(libgomp.so.1: cannot open .* file\); pip"
    ):
        choose("onnxruntime", artifact, FP32)


def test_nothing_works(artifact, monkeypatch):
    break_native(monkeypatch)
    forget(monkeypatch, "onnxruntime")
    forget(monkeypatch, "paddle")
    with pytest.raises(BackendError) as caught:
        choose("auto", artifact, FP32)
    message = str(caught.value)
    assert message.startswith("no backend can run tiny: tensorrt: no NVIDIA GPU here")
    assert all(f"{name}: " in message for name in NAMES)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (
            "1.20.1",
            r"onnxruntime 1.20.1 copies the shared layer once per depth; pip install 'onnxruntime>=1\.21",
        ),
        ("1.24.0", "onnxruntime 1.24.0 misreads weights in an external file; pip install"),
        ("1.24.1", "onnxruntime 1.24.1 misreads weights"),
        (None, "onnxruntime is installed in pieces; pip install --force-reinstall onnxruntime"),
    ],
)
def test_unfit_versions_of_onnxruntime(artifact, monkeypatch, version, message):
    module = types.ModuleType("onnxruntime")
    if version is not None:
        module.__version__ = version
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    with pytest.raises(BackendError, match=message):
        choose("onnxruntime", artifact, FP32)


def test_files_that_the_packages_refuse(artifact):
    pytest.importorskip("paddle")
    with pytest.raises(BackendError, match=r"ONNX Runtime cannot load tiny\.onnx"):
        choose("onnxruntime", artifact, FP32)
    with pytest.raises(BackendError, match=r"tiny\.pdmodel is no Paddle program; restore it or export"):
        choose("paddle", artifact, FP32)
    artifact.files["program"].write_bytes(b"\n\x05bytes")
    bare = replace(artifact, manifest=None)
    with pytest.raises(BackendError, match=r"Paddle Inference cannot load tiny\.pdmodel"):
        choose("paddle", bare, FP32)


@pytest.mark.parametrize(("name", "role"), [("onnxruntime", "onnx"), ("paddle", "program")])
def test_damaged_programs_are_not_loaded(artifact, name, role):
    pytest.importorskip(name)
    file = artifact.files[role]
    file.write_bytes(bytes(len(file.read_bytes())))
    with pytest.raises(ArtifactError, match=f"{file.name} is corrupted"):
        choose(name, Artifact.open(artifact.path), FP32)


def test_an_artifact_without_program_or_manifest(artifact):
    lonely = Artifact(artifact.stem, artifact.folder, None, {}, artifact.path)
    with pytest.raises(BackendError) as caught:
        choose("auto", lonely, FP32)
    message = str(caught.value)
    assert "native: the C++ engine needs tiny.manifest.json; export the model again" in message
    assert "onnxruntime: tiny has no .onnx graph" in message
    assert "paddle: tiny has no Paddle program" in message
