"""On a real GPU: ONNX Runtime on CUDA and TensorRT: parity with the CPU engine, the check of an engine."""

import numpy as np
import pytest

from albert_runtime import BackendError, Predictor
from albert_runtime.artifact.tasks import MULTIPLE_CHOICE, Head
from albert_runtime.backends.cuda import gpu_runtime

from .conftest import LEAST_COSINE, ROWS, closest

pytestmark = pytest.mark.alone  # there is one GPU, and building an engine takes its memory


@pytest.fixture(autouse=True)
def onnxruntime_gpu():
    """Without ONNX Runtime's GPU build there is nothing to test."""
    try:
        gpu_runtime("CUDAExecutionProvider")
    except BackendError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("variant", ["albert-base-v2", "albert-chinese-tiny", "albert-chinese-base"])
def test_cuda_answers_as_the_cpu_engine(artifact, variant, precision):
    path = artifact(variant, precision)
    expected = Predictor(path, backend="native").run(ROWS)
    assert closest(expected, Predictor(path, backend="cuda").run(ROWS)) > LEAST_COSINE[precision]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_tensorrt_builds_checks_and_answers(artifact, tmp_path, monkeypatch, precision):
    pytest.importorskip("tensorrt")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = artifact("albert-base-v2", precision, layers=4)
    built = Predictor(path, backend="tensorrt", max_batch=8, max_length=64)
    expected = Predictor(path, backend="native").run(ROWS)
    assert closest(expected, built.run(ROWS)) > LEAST_COSINE[precision]
    assert list(tmp_path.rglob("*.engine"))
    assert Predictor(path, max_batch=8, max_length=64).backend == "tensorrt"
    assert Predictor(path).backend != "tensorrt"  # other shapes


def test_bfloat16_runs_or_says_why(artifact):
    path = artifact("albert-chinese-tiny", "bf16")
    try:
        answer = Predictor(path, backend="cuda").run(ROWS)
    except BackendError as error:
        assert "ONNX Runtime" in str(error)
    else:
        assert closest(Predictor(path, backend="native").run(ROWS), answer) > LEAST_COSINE["bf16"]


@pytest.mark.parametrize("backend", ["cuda", "tensorrt"])
def test_arrays_on_the_gpu_are_read_there(artifact, tmp_path, monkeypatch, backend):
    torch = pytest.importorskip("torch")
    if backend == "tensorrt":
        pytest.importorskip("tensorrt")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = artifact("albert-chinese-tiny")
    width = max(map(len, ROWS))
    ids = np.array([row + [0] * (width - len(row)) for row in ROWS])
    batch = {"input_ids": ids, "attention_mask": (ids != 0).astype(np.int64)}
    expected = Predictor(path, backend="native").run(batch)
    on_gpu = {name: torch.from_numpy(values).cuda() for name, values in batch.items()}
    answer = Predictor(path, backend=backend, max_batch=4, max_length=64).run(on_gpu)
    assert closest(expected, answer) > LEAST_COSINE["fp32"]


def test_arrays_are_awaited(artifact):
    """Made on another stream, and not ready when run is called."""
    torch = pytest.importorskip("torch")
    path = artifact("albert-chinese-tiny")
    ids, mask = torch.full((8, 32), 7).cuda(), torch.ones((8, 32), dtype=torch.int64).cuda()
    expected = Predictor(path, backend="native").run({"input_ids": ids.cpu().numpy() + 5})
    slow = torch.randn(8192, 8192, device="cuda")
    with torch.cuda.stream(torch.cuda.Stream()):
        for _ in range(10):
            slow = slow @ slow
        ids += 5
        answer = Predictor(path, backend="cuda").run({"input_ids": ids, "attention_mask": mask})
    assert closest(expected, answer) > LEAST_COSINE["fp32"]


def test_questions_of_several_choices_in_tensorrt(artifact, tmp_path, monkeypatch):
    pytest.importorskip("tensorrt")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = artifact("albert-chinese-tiny", head=Head(MULTIPLE_CHOICE, num_labels=1))
    predictor = Predictor(path, backend="tensorrt", max_batch=16, max_length=64)
    for choices in (1, 2, 8):
        questions = [[ROWS[(row + choice) % len(ROWS)] for choice in range(choices)] for row in range(3)]
        expected = Predictor(path, backend="native").run(questions)["logits"]
        np.testing.assert_allclose(predictor.run(questions)["logits"], expected, atol=5e-3)
