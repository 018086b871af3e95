"""Every task on the C++ engine against its head in numpy, and the same answers from padded backends."""

from pathlib import Path

import numpy as np
import pytest

from albert_runtime import InputError, Predictor
from albert_runtime.artifact.artifact import Artifact
from albert_runtime.artifact.tasks import MASKED_SPAN_LOGIT
from albert_runtime.backends import padded
from albert_runtime.backends.base import OwnProcess
from albert_runtime.backends.padded import PaddedBackend
from albert_runtime.batch.pack import pack
from albert_runtime.batch.packed import ModelLimits
from albert_runtime.batch.score_positions import tokens_at

LABELS = ("O", "B-X", "I-X")
TASKS = {
    "masked-lm": ("prediction_scores",),
    "pretraining": ("prediction_scores", "sop_logits"),
    "sequence-classification": ("logits",),
    "token-classification": ("logits",),
    "question-answering": ("start_logits", "end_logits"),
    "multiple-choice": ("logits",),
}
IDS = np.random.default_rng(3).integers(1, 50, (6, 8))
MASK = np.ones((6, 8), int)
MASK[1, 3:] = 0
MASK[2, 0] = MASK[2, 4] = 0
MASK[3:, 6:] = 0
TYPES = IDS % 2
BATCH = {"input_ids": IDS, "attention_mask": MASK, "token_type_ids": TYPES}


def batch_for(task):
    if task != "multiple-choice":
        return BATCH
    return {name: values.reshape(2, 3, 8) for name, values in BATCH.items()}


def make(make_artifact, folder, task, **changes):
    labels = LABELS if task.endswith("-classification") else ()
    return make_artifact(folder=folder, task=task, labels=labels, **changes)


def tensors_of(path: Path) -> dict[str, np.ndarray]:
    manifest = Artifact.open(path).manifest
    data = path.with_name("tiny.pdiparams").read_bytes()
    return {
        t.name: np.frombuffer(data, np.float32, t.length // 4, t.offset).reshape(t.shape).astype(float)
        for t in manifest.tensors
    }


def expected_outputs(path, encoder, batch) -> dict[str, np.ndarray]:
    """The heads in float64 on the states of the bare encoder, whose tensors are the same."""
    tensors, task = tensors_of(path), Artifact.open(path).manifest.task
    states = {name: values.astype(float) for name, values in encoder.run(batch).items()}
    hidden, seen = states["last_hidden_state"], MASK[..., None] == 1

    def linear(values, name):
        return values @ tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    if task == "sequence-classification":
        return {"logits": linear(states["pooled_output"], "classifier")}
    if task == "multiple-choice":
        return {"logits": linear(states["pooled_output"], "classifier").reshape(2, 3)}
    if task == "token-classification":
        return {"logits": np.where(seen, linear(hidden, "classifier"), 0)}
    if task == "question-answering":
        spans = np.where(seen, linear(hidden, "qa_outputs"), MASKED_SPAN_LOGIT)
        return {"start_logits": spans[..., 0], "end_logits": spans[..., 1]}
    inner = linear(hidden, "predictions.dense")
    inner = 0.5 * inner * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3)))
    inner = (inner - inner.mean(-1, keepdims=True)) / np.sqrt(inner.var(-1, keepdims=True) + 1e-5)
    inner = inner * tensors["predictions.layer_norm.weight"] + tensors["predictions.layer_norm.bias"]
    name = "predictions.decoder.weight"
    decoder = tensors[name if name in tensors else "embeddings.word_embeddings.weight"]
    outputs = {"prediction_scores": np.where(seen, inner @ decoder.T + tensors["predictions.bias"], 0)}
    if task == "pretraining":
        outputs["sop_logits"] = linear(states["pooled_output"], "sop_classifier.classifier")
    return outputs


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("task", TASKS)
def test_the_engine_computes_every_head(make_artifact, tmp_path, task, tied):
    path = make(make_artifact, tmp_path / "head", task, tied_decoder=tied)
    predictor = Predictor(path, backend="native")
    encoder = Predictor(make_artifact(folder=tmp_path / "encoder"), backend="native")
    answer = predictor.run(batch_for(task))
    assert tuple(answer) == TASKS[task] == tuple(predictor.info()["outputs"])
    for name, values in expected_outputs(path, encoder, BATCH).items():
        assert answer[name].dtype == np.float32
        assert answer[name].flags.c_contiguous
        assert answer[name].shape == values.shape
        np.testing.assert_allclose(answer[name], values, rtol=0, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("task", TASKS)
def test_each_output_alone_has_the_same_bits(make_artifact, tmp_path, task):
    predictor = Predictor(make(make_artifact, tmp_path / "head", task), backend="native")
    everything = predictor.run(batch_for(task))
    for name in TASKS[task]:
        alone = predictor.run(batch_for(task), outputs=[name])
        assert list(alone) == [name]
        np.testing.assert_array_equal(alone[name], everything[name])


@pytest.mark.parametrize("task", TASKS)
def test_lists_of_ids_have_the_bits_of_padded_arrays(make_artifact, tmp_path, task):
    predictor = Predictor(make(make_artifact, tmp_path / "head", task), backend="native")
    lengths = [8, 3, 5, 7, 2, 1]
    rows = [IDS[row, :length].tolist() for row, length in enumerate(lengths)]
    mask = np.arange(8) < np.array(lengths)[:, None]
    padded = {"input_ids": IDS, "attention_mask": mask}
    if task == "multiple-choice":
        padded = {name: values.reshape(2, 3, 8) for name, values in padded.items()}
        rows = [rows[:3], rows[3:]]
    expected = predictor.run(padded)
    for name, values in predictor.run(rows).items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


class Padded(PaddedBackend):
    """The engine in the clothes of a padded program, which computes nonsense at masked positions."""

    name = "padded"
    process = OwnProcess("padded")

    def __init__(self, predictor):
        self._predictor = predictor
        self.outputs = tuple(predictor.info()["outputs"])
        self.vocab_size = 50
        self.shapes = []

    def forward(self, inputs, outputs):
        self.shapes.append(inputs["input_ids"].shape)
        results = self._predictor.run(inputs, outputs)
        masked = inputs["attention_mask"] == 0
        for values in results.values():
            if values.shape[:2] == masked.shape and values.ndim + (self.outputs[0] == "start_logits") > 2:
                values[masked] = np.nan
        return [results[name] for name in outputs]

    def info(self):
        return {}


@pytest.mark.parametrize("cap", [1, 20, 4096])
@pytest.mark.parametrize("task", TASKS)
def test_padded_backends_answer_alike(make_artifact, tmp_path, monkeypatch, task, cap):
    monkeypatch.setattr(PaddedBackend, "tokens_per_pass", cap)
    predictor = Predictor(make(make_artifact, tmp_path / "head", task), backend="native")
    backend = Padded(predictor)
    wide = {name: np.pad(values, ((0, 0), (0, 3))) for name, values in BATCH.items()}
    choices = task == "multiple-choice"
    if choices:
        wide = {name: values.reshape(2, 3, 11) for name, values in wide.items()}
    packed = pack(wide, ModelLimits(), choices=choices)
    expected = predictor.run(wide)
    results = backend.run(packed, TASKS[task])
    assert list(results) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(results[name], values, err_msg=name)
    assert all(len(shape) == (3 if choices else 2) for shape in backend.shapes)
    assert not choices or all(shape[1] == 3 for shape in backend.shapes)


POSITIONS = [[7, 0], [], [3, 1, 3], [5], np.array([2, 4]), (1,)]
AT = [(0, 7), (0, 0), (2, 3), (2, 1), (2, 3), (3, 5), (4, 2), (4, 4), (5, 1)]


@pytest.mark.parametrize("task", ["masked-lm", "pretraining"])
def test_positions_pick_their_scores(make_artifact, tmp_path, monkeypatch, task):
    predictor = Predictor(make(make_artifact, tmp_path / "head", task), backend="native")
    everything = predictor.run(BATCH)
    rows, columns = np.array(AT).T
    expected = everything["prediction_scores"][rows, columns]
    some = predictor.run(BATCH, positions=POSITIONS)
    np.testing.assert_array_equal(some["prediction_scores"], expected)
    if task == "pretraining":
        np.testing.assert_array_equal(some["sop_logits"], everything["sop_logits"])
    packed = pack(BATCH, ModelLimits())
    for cap in (1, 20, 4096):
        monkeypatch.setattr(PaddedBackend, "tokens_per_pass", cap)
        backend = Padded(predictor)
        scores = backend.run(packed, TASKS[task], tokens_at(packed, POSITIONS))["prediction_scores"]
        np.testing.assert_array_equal(scores, expected)
    monkeypatch.setattr(padded, "_MAX_SCORES", 1)
    backend.run(packed, TASKS[task])
    assert backend.shapes[-1] == (1, 6)


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ([[0]], "positions has 1 rows, the batch has 2; give every row a list"),
        ([[0], [3]], "positions: row 1, column 3 lies outside the 3 columns"),
        ([[-1], [0]], "positions: row 0, column -1 lies outside"),
        ([[0], [2]], "positions: row 1, column 2 is masked"),
        ([[], []], "positions names no column; give at least one"),
        ([0, 1], r"positions: row 0 must be a list of columns, as in \[\[3\], \[1, 4\]\]"),
        ([[0.5], [1]], "positions: row 0 must be a list of columns"),
        ([["a"], [1]], "positions: row 0 must be a list of columns"),
        ([[[1]], [1]], "positions: row 0 must be a list of columns"),
        ([[[1], [1, 2]], [1]], "positions: row 0 must be a list of columns"),
        (3, "positions must be a list of columns for every row, not int"),
        ("ab", "positions must be a list of columns for every row, not str"),
    ],
)
def test_bad_positions(make_artifact, positions, message):
    predictor = Predictor(make_artifact(task="masked-lm"))
    with pytest.raises(InputError, match=message):
        predictor.run([[5, 6, 7], [8, 9]], positions=positions)


def test_a_masked_first_position_has_no_scores(make_artifact):
    predictor = Predictor(make_artifact(task="masked-lm"))
    with pytest.raises(InputError, match="positions: row 0, column 0 is masked"):
        predictor.run({"input_ids": [[5, 6]], "attention_mask": [[0, 1]]}, positions=[[0]])


def test_positions_are_for_the_vocabulary(make_artifact, tmp_path):
    with pytest.raises(InputError, match="positions is for prediction_scores, which is not among logits"):
        Predictor(make(make_artifact, tmp_path / "x", "token-classification")).run([[5]], positions=[[0]])
    predictor = Predictor(make_artifact(task="pretraining"))
    with pytest.raises(InputError, match="positions is for prediction_scores"):
        predictor.run([[5]], ["sop_logits"], positions=[[0]])


def test_heads_on_the_same_weights_are_engines_of_their_own(make_artifact, tmp_path):
    """An engine without the head of another task would not answer for it."""
    first = Predictor(make(make_artifact, tmp_path / "a", "token-classification"), backend="native")
    second = Predictor(make(make_artifact, tmp_path / "b", "question-answering"), backend="native")
    third = Predictor(make(make_artifact, tmp_path / "c", "token-classification"), backend="native")
    assert first._model.backend._engine is third._model.backend._engine
    assert first._model.backend._engine is not second._model.backend._engine
