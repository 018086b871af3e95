"""Artifacts made without Paddle: they run, and checkpoints give PaddleNLP's own numbers."""

import numpy as np
import pytest

from albert_bench.seeded import TINY, checkpoint_artifact, config_of, seeded_artifact
from albert_bench.workload import uniform
from albert_runtime import Predictor


def test_an_artifact_is_written_once(tmp_path):
    first = seeded_artifact(tmp_path, TINY, "int8")
    before = first.stat().st_mtime_ns
    assert seeded_artifact(tmp_path, TINY, "int8").stat().st_mtime_ns == before
    rows = uniform(2, 8).rows(config_of(TINY))
    for backend in ("native", "onnxruntime"):
        assert Predictor(first, backend=backend, verify=True).run(rows)["pooled_output"].shape == (2, 64)


@pytest.mark.parametrize("case", ["masked-lm", "model-groups", "multiple-choice"])
def test_a_checkpoint_gives_paddlenlps_numbers(golden, tmp_path, case):
    with np.load(golden / case / "io.npz") as file:
        arrays = dict(file)
    inputs = {name: arrays.pop(name) for name in ("input_ids", "attention_mask", "token_type_ids")}
    answer = Predictor(checkpoint_artifact(tmp_path, golden / case), backend="native").run(inputs)
    seen = inputs["attention_mask"] == 1
    for name, values in arrays.items():
        per_token = values.shape[:2] == seen.shape and seen.ndim == 2
        found, wanted = (answer[name][seen], values[seen]) if per_token else (answer[name], values)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5)
