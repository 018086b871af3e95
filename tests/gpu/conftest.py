"""What needs a GPU is skipped where there is none, and says so; artifacts are made without Paddle."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from albert_bench.seeded import BARE, config_of, write_artifact
from albert_runtime.artifact.tasks import Head
from albert_runtime.backends.nvidia import Gpu, find_gpu
from albert_runtime.errors import BackendError


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
