"""The published albert-base-v2, fetched from its hub: `make test-real`, where there is a network, not in CI.

The expected numbers are those that transformers' and PaddleNLP's own tests pin.
"""

from pathlib import Path

import numpy as np
import pytest

from albert_export.cli import main
from albert_runtime import Predictor

pytestmark = pytest.mark.real
SOURCES = ["paddlenlp", "huggingface"]


def fetched(folder: Path, source: str, task: str) -> Path:
    assert main(["albert-base-v2", "--source", source, "--task", task, "-o", str(folder), "--quiet"]) == 0
    return folder


@pytest.mark.parametrize("source", SOURCES)
def test_hidden_states(tmp_path: Path, source: str) -> None:
    ids = [[0, 345, 232, 328, 740, 140, 1695, 69, 6078, 1588, 2]]
    mask = [[0] + [1] * 10]
    expected = [[-0.6513, 1.5035, -0.2766], [-0.6515, 1.5046, -0.2780], [-0.6512, 1.5049, -0.2784]]
    folder = fetched(tmp_path, source, "model")
    for backend in ("native", "onnxruntime", "paddle"):
        out = Predictor(folder, backend=backend).run({"input_ids": ids, "attention_mask": mask})
        np.testing.assert_allclose(out["last_hidden_state"][0, 1:4, 1:4], expected, atol=1e-4)


@pytest.mark.parametrize("source", SOURCES)
def test_fill_mask(tmp_path: Path, source: str) -> None:
    predictor = Predictor(fetched(tmp_path, source, "masked-lm"))
    (mask,) = predictor.fill_mask("Paris is the [MASK] of France.", top_k=5)["masks"]
    words = [candidate["token"].strip("▁ ") for candidate in mask["candidates"]]
    assert words == ["capital", "capitol", "comune", "arrondissement", "bastille"]
