"""Artifacts of every released manifest schema stay readable, and answer as they did when they were made."""

from pathlib import Path

import numpy as np
import pytest

from albert_runtime import Predictor, _native

RELEASED = sorted((Path(__file__).parents[1] / "data" / "artifacts").iterdir())
PROVED = Path(__file__).parents[1] / "data" / "artifacts" / "schema-1-proof"


@pytest.mark.parametrize("backend", ["native", "onnxruntime", "paddle"])
@pytest.mark.parametrize("folder", RELEASED, ids=lambda folder: folder.name)
def test_released_artifact(folder: Path, backend: str) -> None:
    with np.load(folder / "io.npz") as stored:
        expected = dict(stored)
    answer = Predictor(folder, backend=backend, verify=True).run({"input_ids": expected.pop("input_ids")})
    assert answer.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(answer[name], array, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("isa", _native.isas())
def test_the_bits_of_a_released_artifact(
    isa: str, precision: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its digests were taken on an Intel Xeon with AVX-512. A change that breaks them breaks the proof of
    every artifact: it belongs in the changelog, and this artifact is to be exported again."""
    monkeypatch.setenv("ALBERT_FORCE_ISA", isa)
    predictor = Predictor(PROVED, backend="native", precision=precision, num_threads=threads, prove=True)
    assert predictor.proved is not None and predictor.proved.isa == isa
    assert predictor.proved.outputs == ("last_hidden_state", "pooled_output", "hidden_states")
