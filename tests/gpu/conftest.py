"""What needs a GPU is skipped where there is none, and says so; artifacts are made without Paddle."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from albert_bench.seeded import BARE, config_of, write_artifact
from albert_runtime.artifact.tasks import Head
from albert_runtime.backends.nvidia import Gpu, find_gpu
from albert_runtime.errors import BackendError

ROWS = [[2, *range(100, 100 + length), 3] for length in (62, 1, 30, 14, 5)]
# Relative to the size of the answers. ONNX Runtime's fp32 products are TF32.
LEAST_COSINE = {"fp32": 0.9999, "tf32": 0.9999, "fp16": 0.9999, "bf16": 0.999, "int8": 0.98}


def closest(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> float:
    """The least cosine between rows of two answers."""
    least = 1.0
    for name, values in first.items():
        for pair in zip(values, second[name], strict=True):
            a, b = (one.reshape(-1).astype(np.float64) for one in pair)
            assert np.isfinite(b).all(), name
            least = min(least, float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
    return least


@pytest.fixture(scope="session", autouse=True)
def card() -> Gpu:
    """The GPU of this machine; without one all tests here are skipped."""
    try:
        return find_gpu()
    except BackendError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """artifact(variant, precision="fp32", layers=None, head=BARE) -> its manifest, with seeded weights."""

    def make(variant: str, precision: str = "fp32", layers: int | None = None, head: Head = BARE) -> Path:
        config = config_of(variant)
        if layers is not None:
            config = replace(config, num_hidden_layers=layers)
        return write_artifact(
            tmp_path_factory.mktemp("gpu"),
            f"{variant}-{precision}",
            config,
            precision,
            head,
        )

    return make
