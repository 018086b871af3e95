"""PaddleNLP's own numbers: every golden case on every backend; ``gpu`` interpreted where there is no GPU."""

import numpy as np
import pytest

from albert_runtime import Predictor
from albert_runtime.artifact.tasks import MASKED_SPAN_LOGIT

CASES = (
    "model-gelu",
    "model-gelu_new",
    "model-relu",
    "model-groups",
    "masked-lm",
    "sequence-classification",
    "token-classification",
    "question-answering",
    "multiple-choice",
)
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
TOLERANCE = 2e-5


@pytest.fixture(scope="module", params=CASES)
def case(request, golden, export_artifact):
    """(program, inputs, outputs) of one case."""
    with np.load(golden / request.param / "io.npz") as file:
        arrays = dict(file)
    inputs = {name: arrays.pop(name) for name in INPUTS}
    return export_artifact(golden / request.param), inputs, arrays


@pytest.mark.parametrize("backend", ["native", "gpu", "onnxruntime", "paddle"])
def test_the_numbers_of_paddlenlp(case, backend):
    program, inputs, expected = case
    answer = Predictor(program, backend=backend).run(inputs)
    assert list(answer) == list(expected)
    masked = inputs["attention_mask"] == 0
    for name, values in expected.items():
        if values.shape[:2] == masked.shape and masked.ndim == 2:
            values[masked] = MASKED_SPAN_LOGIT if name in ("start_logits", "end_logits") else 0
        np.testing.assert_allclose(answer[name], values, rtol=0, atol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("backend", ["native", "gpu", "onnxruntime", "paddle"])
def test_scores_at_positions(golden, export_artifact, backend):
    with np.load(golden / "masked-lm" / "io.npz") as file:
        arrays = dict(file)
    scores = arrays.pop("prediction_scores")
    positions = [[column for column in (7, 0, 3) if row[column]] for row in arrays["attention_mask"]]
    expected = np.array([scores[row, column] for row, columns in enumerate(positions) for column in columns])
    predictor = Predictor(export_artifact(golden / "masked-lm"), backend=backend)
    found = predictor.run(arrays, positions=positions)["prediction_scores"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
