"""The backend ``gpu``: whom it refuses, what becomes of errors. Its engine: tests/runtime/gpu."""

import os
import sys
import weakref
from concurrent.futures import wait
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from albert_runtime import BackendError, InputError, Predictor
from albert_runtime.backends import gpu as backend_module
from albert_runtime.backends import nvidia
from albert_runtime.gpu.engine import GpuEngine

from .fake_gpu import Driver, GpuArray

ROWS = [[5, 6, 7], [9]]


@pytest.fixture
def real(monkeypatch):
    """A machine with a driver, and kernels that would run on its GPU."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(nvidia.ctypes, "CDLL", lambda name: Driver())


@pytest.fixture
def predictor(make_artifact, monkeypatch):
    """In the interpreter, with an engine of its own."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(backend_module, "_engines", {})
    return Predictor(make_artifact(), backend="gpu")


def refusal(path, **options):
    with pytest.raises(BackendError) as caught:
        Predictor(path, backend="gpu", **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_no_driver(make_artifact, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(nvidia, "DRIVER", "libcuda.so.none")
    assert refusal(make_artifact()).startswith("no NVIDIA GPU here: its driver's libcuda.so.none")


def test_an_old_driver(make_artifact, real, monkeypatch):
    monkeypatch.setattr(Driver, "version", 11080)
    assert "driver is too old: it offers CUDA 11.8" in refusal(make_artifact())


def test_an_old_card(make_artifact, real, monkeypatch):
    def turing(self, value, which, device):
        value._obj.value = {75: 7, 76: 5}[which]

    monkeypatch.setattr(Driver, "cuDeviceGetAttribute", turing)
    path = make_artifact()
    message = refusal(path)
    assert "needs compute capability 8.0 (A100) or later, NVIDIA H100 has 7.5; use backend='cuda'" in message
    assert Predictor(path).info()["skipped"]["gpu"] == message  # and auto goes on


@pytest.mark.parametrize("package", ["torch", "triton"])
def test_a_package_that_is_not_installed(make_artifact, real, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    assert refusal(make_artifact()).endswith("pip install 'albert-runtime[gpu]'")


def test_torch_without_cuda(make_artifact, real, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    message = refusal(make_artifact())
    assert message.startswith(f"torch {torch.__version__} is a build without CUDA; pip uninstall -y torch")


def test_a_driver_too_old_for_this_torch(make_artifact, real, monkeypatch):
    def init():
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 12040).\nMore text")

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", init)
    message = refusal(make_artifact())
    assert "for CUDA 13.0 cannot use NVIDIA H100, whose driver is for 12.4 (The NVIDIA driver" in message
    assert message.endswith("update the driver or change torch")


def test_auto_interprets_nothing(make_artifact, real, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    skipped = Predictor(make_artifact()).info()["skipped"]
    assert skipped["gpu"] == "TRITON_INTERPRET=1 is set, so kernels would run on the CPU; unset it"


def test_models_that_kernels_are_not_made_for(make_artifact, tmp_path, monkeypatch):
    wide = make_artifact(folder=tmp_path / "wide", hidden_size=600, num_attention_heads=2)
    assert "heads have 300 columns, the GPU engine takes at most 256" in refusal(wide)
    monkeypatch.setattr(backend_module, "_MOST_INT8_COLUMNS", 19)
    plain = make_artifact()
    assert refusal(plain, precision="int8") == "int8 sums of 20 products could overflow; use bf16"


def test_a_program_without_manifest(make_artifact):
    manifest = make_artifact()
    program = manifest.with_name("tiny.pdmodel")
    manifest.unlink()
    assert "the GPU engine needs tiny.manifest.json; export the model again" in refusal(program)


def test_damaged_weights(make_artifact, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    path = make_artifact(seed=123)
    weights = path.with_name("tiny.pdiparams")
    raw = bytearray(weights.read_bytes())
    raw[-3] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(Exception, match=r"tiny\.pdiparams is corrupted"):
        Predictor(path, backend="gpu")


def out_of_memory(*arguments, **options):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total ...")


def lost(*arguments, **options):
    raise RuntimeError("CUDA error: unspecified launch failure\nCompile with `TORCH_USE_CUDA_DSA`")


@pytest.fixture
def memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *arguments: (300 << 20, 80 << 30))


def test_out_of_memory_in_a_run(predictor, memory, monkeypatch):
    expected = predictor.run(ROWS)
    with monkeypatch.context() as patch:
        patch.setattr(GpuEngine, "_pass", out_of_memory)
        with pytest.raises(BackendError) as caught:
            predictor.run(ROWS)
    message = str(caught.value)
    assert message.startswith("out of GPU memory on a batch of 4 tokens: 300 of 81920 MiB are free")
    assert "Tried to allocate 2.00 GiB" in message and "run fewer or shorter rows" in message
    assert predictor.info()["graphs"] == 0  # what they held is free again
    for name, values in predictor.run(ROWS).items():
        np.testing.assert_array_equal(values, expected[name])


def test_what_a_pass_had_allocated_is_free_before_the_error_is_seen(predictor, monkeypatch):
    """The error's traceback must not keep it: who catches the error may try a smaller batch at once."""
    made, seen = [], []

    def allocate(*arguments):
        tensor = torch.empty(10)
        made.append(weakref.ref(tensor))
        out_of_memory()

    def free(*arguments):
        seen.append(made[0]() is None)
        return 300 << 20, 80 << 30

    monkeypatch.setattr(torch.cuda, "mem_get_info", free)
    monkeypatch.setattr(GpuEngine, "_pass", allocate)
    with pytest.raises(BackendError):
        predictor.run(ROWS)
    assert seen == [True]


def test_graphs_are_forgotten_between_passes(predictor, monkeypatch):
    """Not in the midst of one that another thread runs."""
    engine = predictor._model.backend._engine
    held = []
    monkeypatch.setattr(engine.graphs, "clear", lambda: held.append(engine._lock.locked()))
    monkeypatch.setattr(GpuEngine, "_pass", lost)
    with pytest.raises(BackendError):
        predictor.run(ROWS)
    assert held == [True]


def test_out_of_memory_while_loading(make_artifact, memory, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(backend_module, "_engines", {})
    monkeypatch.setattr(GpuEngine, "__init__", out_of_memory)
    message = refusal(make_artifact())
    assert message.startswith("out of GPU memory on loading tiny: 300 of 81920 MiB are free")


def test_a_gpu_lost_in_mid_run(predictor, monkeypatch):
    """Every request is answered."""
    monkeypatch.setattr(GpuEngine, "_pass", lost)
    message = r"the GPU engine failed on a batch of \d+ tokens \(CUDA error: unspecified launch failure\)"
    with pytest.raises(BackendError, match=message):
        predictor.run(ROWS)
    futures = [predictor.submit(ROWS) for _ in range(5)]
    assert not wait(futures, timeout=60).not_done
    for future in futures:
        with pytest.raises(BackendError, match=message):
            future.result()


def test_a_forked_process(predictor, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: -1)
    message = "a forked process cannot use its parent's GPU"
    with pytest.raises(BackendError, match=message):
        predictor.run(ROWS)
    with pytest.raises(BackendError, match=message):
        predictor.run({"input_ids": GpuArray(IDS), "attention_mask": GpuArray(MASK)})


# Arrays on the GPU

IDS = [[5, 6, 7, 0], [9, 8, 9, 8]]
MASK = [[1, 1, 1, 0], [1, 1, 1, 1]]


@pytest.fixture
def dlpack(monkeypatch):
    monkeypatch.setattr(torch, "from_dlpack", lambda array: torch.from_numpy(array.values))


def test_arrays_on_the_gpu(predictor, dlpack):
    types = [[0, 1, 1, 0], [0, 0, 1, 1]]
    batch = {"input_ids": IDS, "attention_mask": MASK, "token_type_ids": types}
    expected = predictor.run(batch)
    found = predictor.run({name: GpuArray(values) for name, values in batch.items()})
    assert list(found) == list(expected)
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name])


def test_arrays_are_awaited_by_the_engines_stream(predictor, dlpack, monkeypatch):
    """What torch's current stream was given before comes first; then arrays, mask included, are read."""
    seen = []

    class Stream:
        def wait_stream(self, other):
            seen.append(f"waits for {other}")

        def synchronize(self):
            pass

    @contextmanager
    def stream(entered):
        seen.append("engine's")
        yield
        seen.append("caller's")

    take = torch.from_dlpack
    monkeypatch.setattr(torch, "from_dlpack", lambda array: seen.append("taken over") or take(array))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "caller's")
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(predictor._model.backend._engine.device, "stream", Stream())
    predictor.run({"input_ids": GpuArray(IDS), "attention_mask": GpuArray(MASK)})
    assert seen[:5] == ["waits for caller's", "engine's", "taken over", "taken over", "caller's"]


def test_reading_fails_as_the_engine_does(predictor, dlpack, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "cpu", lost)
    with pytest.raises(BackendError, match="the GPU engine failed on arrays on the GPU"):
        predictor.run({"input_ids": GpuArray(IDS), "attention_mask": GpuArray(MASK)})


def test_choices_on_the_gpu(make_artifact, monkeypatch, dlpack):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    predictor = Predictor(make_artifact(task="multiple-choice"), backend="gpu")
    batch = {"input_ids": [IDS, IDS[::-1]], "attention_mask": [MASK, MASK[::-1]]}
    expected = predictor.run(batch)["logits"]
    found = predictor.run({name: GpuArray(values) for name, values in batch.items()})["logits"]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"input_ids": GpuArray([[5, 6, 50, 0], [9, 8, 9, 8]])},
            "row 0, column 2: input_ids holds 50, allowed",
        ),
        ({"input_ids": GpuArray([[5, 6, 7]])}, r"input_ids has shape \[1, 3\], attention_mask has \[2, 4\]"),
        (
            {"input_ids": GpuArray(IDS, np.float32)},
            "input_ids on a GPU must hold int64 or int32, not torch.float32",
        ),
        (
            {"attention_mask": GpuArray([[2, 1, 1, 0], [1, 1, 1, 1]])},
            "row 0, column 0: attention_mask holds 2",
        ),
        ({"token_type_ids": np.array(IDS)}, "token_type_ids is not on the GPU, others are"),
        ({"words": GpuArray(IDS)}, "unknown key 'words'"),
    ],
)
def test_bad_arrays_on_the_gpu(predictor, dlpack, change, message):
    batch = {"input_ids": GpuArray(IDS), "attention_mask": GpuArray(MASK), **change}
    with pytest.raises(InputError, match=message):
        predictor.run(batch)


def test_arrays_that_cannot_be_read(predictor):
    """This torch has no CUDA: it cannot."""
    with pytest.raises(InputError, match="cannot be read where it is, on the GPU"):
        predictor.run({"input_ids": GpuArray(IDS), "attention_mask": GpuArray(MASK)})
