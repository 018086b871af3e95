"""On a real GPU: parity of CUDA and TensorRT with the CPU engine, the check of an engine, `auto`."""

import numpy as np
import pytest

from albert_runtime import BackendError, Predictor

ROWS = [[2, *range(100, 100 + length), 3] for length in (62, 1, 30, 14, 5)]
# Relative to the size of the answers. fp32 products are TF32 on the GPU.
LEAST_COSINE = {"fp32": 0.9999, "fp16": 0.9999, "bf16": 0.999, "int8": 0.98}


def closest(first, second):
    """The least cosine between rows of two answers."""
    least = 1.0
    for name, values in first.items():
        for pair in zip(values, second[name], strict=True):
            a, b = (one.reshape(-1).astype(np.float64) for one in pair)
            assert np.isfinite(b).all(), name
            least = min(least, float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
    return least


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
    assert Predictor(path).backend == "cuda"


def test_auto_takes_the_gpu(artifact):
    predictor = Predictor(artifact("albert-chinese-tiny"))
    assert predictor.backend == "cuda", predictor.info()["skipped"]


def test_bfloat16_runs_or_says_why(artifact):
    path = artifact("albert-chinese-tiny", "bf16")
    try:
        answer = Predictor(path, backend="cuda").run(ROWS)
    except BackendError as error:
        assert "ONNX Runtime" in str(error)
    else:
        assert closest(Predictor(path, backend="native").run(ROWS), answer) > LEAST_COSINE["bf16"]
