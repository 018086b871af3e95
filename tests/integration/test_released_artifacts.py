"""Artifacts of every released manifest schema stay readable, and answer as they did when they were made."""

from pathlib import Path

import numpy as np
import pytest

from albert_runtime import Predictor

RELEASED = sorted((Path(__file__).parents[1] / "data" / "artifacts").iterdir())


@pytest.mark.parametrize("backend", ["native", "onnxruntime", "paddle"])
@pytest.mark.parametrize("folder", RELEASED, ids=lambda folder: folder.name)
def test_released_artifact(folder: Path, backend: str) -> None:
    with np.load(folder / "io.npz") as stored:
        expected = dict(stored)
    answer = Predictor(folder, backend=backend, verify=True).run({"input_ids": expected.pop("input_ids")})
    assert answer.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(answer[name], array, atol=1e-5)
