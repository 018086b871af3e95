"""Checkpoints that transformers writes, exported: every backend's answers against its own in float64."""

import numpy as np
import pytest

from albert_runtime import Predictor
from albert_runtime.artifact import tasks

pytest.importorskip("transformers")

from .checkpoint.test_huggingface import difference, make, make_inputs, theirs

# All combinations would take minutes here; checkpoint/test_huggingface.py covers them, in float64.
SETTINGS = {
    tasks.MODEL: {"hidden_act": "relu", "num_hidden_groups": 2, "inner_group_num": 2},
    tasks.MASKED_LM: {"hidden_act": "gelu_new"},
    tasks.PRETRAINING: {"hidden_act": "gelu", "num_hidden_groups": 2, "tie_word_embeddings": False},
    tasks.SEQUENCE_CLASSIFICATION: {"hidden_act": "gelu_new", "num_hidden_groups": 4},
    tasks.TOKEN_CLASSIFICATION: {"hidden_act": "relu", "inner_group_num": 2},
    tasks.QUESTION_ANSWERING: {"hidden_act": "gelu", "num_hidden_groups": 2, "inner_group_num": 2},
    tasks.MULTIPLE_CHOICE: {"hidden_act": "gelu_new", "num_hidden_groups": 2},
}
TOLERANCE = 2e-5


@pytest.mark.parametrize("task", tasks.TASKS)
def test_same_answers_on_every_backend(tmp_path, export_artifact, task):
    model = make(task, **SETTINGS[task])
    model.save_pretrained(tmp_path / "model", safe_serialization=task != tasks.QUESTION_ANSWERING)
    artifact = export_artifact(tmp_path / "model")
    inputs = make_inputs(task)
    wanted = theirs(model, task, inputs)
    for backend in ("native", "onnxruntime", "paddle"):
        predictor = Predictor(artifact, backend=backend)
        assert predictor.manifest.head.task == task
        answer = predictor.run(inputs)
        assert difference(answer, wanted, inputs["attention_mask"]) < TOLERANCE, backend
        if task in tasks.LABELLED:
            assert predictor.manifest.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert max(np.abs(value).max() for value in wanted.values()) > 0.1
