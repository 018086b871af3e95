"""From a TensorFlow folder to an artifact, whose answers are transformers'."""

import json
import shutil

import numpy as np
import pytest

from albert_runtime import Predictor

from ..test_huggingface import make_inputs
from .models import BRIGHTMART_CONFIG, CONFIG, brightmart, google, slots, write_folder
from .test_brightmart import bert
from .test_brightmart import theirs as berts
from .test_google import converted
from .test_recorded import NAME


def test_googles_checkpoint(pytestconfig, export_artifact, make_once):
    """What TensorFlow wrote, and transformers' answers to it."""
    recorded = pytestconfig.rootpath / "tests" / "data" / "tensorflow" / "google"
    folder = (
        make_once("tensorflow", lambda part: shutil.copytree(recorded, part / "albert_tiny")) / "albert_tiny"
    )
    model = Predictor(export_artifact(folder))
    with np.load(folder / "answers.npz") as file:
        case = {name: file[name] for name in file.files}
    inputs = {name: case.pop(name) for name in ("input_ids", "attention_mask", "token_type_ids")}
    ours = model.run(inputs)
    assert set(ours) == set(case)
    kept = inputs["attention_mask"].astype(bool)
    np.testing.assert_allclose(ours["prediction_scores"][kept], case["prediction_scores"][kept], atol=2e-5)
    np.testing.assert_allclose(ours["sop_logits"], case["sop_logits"], atol=2e-5)
    origin = model.info()["weights_origin"]
    assert origin["format"] == "tensorflow" and origin["files"][0] == f"{NAME}.index"


def test_the_same_weights_as_a_transformers_checkpoint(tmp_path, monkeypatch, run):
    """Bit for bit: the two artifacts hold the same weights in the same program."""
    tensors = google(CONFIG, "classifier")
    model = converted(monkeypatch, tensors, CONFIG, "AlbertForSequenceClassification", num_labels=3)
    monkeypatch.undo()  # TensorFlow is no longer pretended
    model.save_pretrained(tmp_path / "theirs")
    write_folder(tmp_path / "ours", CONFIG, slots(tensors), shards=3)
    found = {}
    for name in ("theirs", "ours"):
        outcome = run(tmp_path / name, "-o", tmp_path / "out")
        assert outcome.code == 0, outcome.err
        found[name] = Predictor(tmp_path / "out" / f"{name}.pdmodel").run(make_inputs("model"))
    np.testing.assert_array_equal(found["ours"]["logits"], found["theirs"]["logits"])
    assert "gelu is TensorFlow's, the tanh form" in outcome.err
    weights = [(tmp_path / "out" / f"{name}.pdiparams").read_bytes() for name in found]
    assert weights[0] == weights[1]


def test_brightmarts_checkpoint(tmp_path, run):
    tensors = brightmart(BRIGHTMART_CONFIG, "predictions", "seq_relationship")
    folder = write_folder(
        tmp_path / "albert_tiny_zh", BRIGHTMART_CONFIG, slots(tensors), name="albert_model.ckpt"
    )
    (folder / "albert_config.json").rename(folder / "albert_config_tiny.json")
    outcome = run(folder, "-o", tmp_path)
    assert outcome.code == 0, outcome.err
    assert "albert_zh's word table in two factors is multiplied out" in outcome.err
    inputs = make_inputs("model")
    ours = Predictor(tmp_path / "albert_tiny_zh.pdmodel").run(inputs)
    wanted = berts(bert(tensors, "BertForPreTraining"), inputs)
    kept = inputs["attention_mask"].astype(bool)
    scores = ours["prediction_scores"][kept], wanted["prediction_scores"][kept]
    np.testing.assert_allclose(*scores, atol=2e-5)
    np.testing.assert_allclose(ours["sop_logits"], wanted["sop_logits"], atol=2e-5)
    config = json.loads((tmp_path / "albert_tiny_zh.manifest.json").read_text())["config"]
    assert (config["embedding_size"], config["hidden_size"], config["hidden_act"]) == (24, 24, "gelu_new")


def test_a_damaged_checkpoint_is_one_line(tmp_path, run):
    folder = write_folder(tmp_path / "albert", CONFIG, google(CONFIG))
    data = folder / "model.ckpt-7.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[100] ^= 1
    data.write_bytes(content)
    outcome = run(folder, "-o", tmp_path)
    assert outcome.code == 1 and len(outcome.err.splitlines()[-1]) < 300
    assert f"{data}: the checksum of bert/" in outcome.err and "fetch the checkpoint again" in outcome.err
    assert not list(tmp_path.glob("*.pdmodel"))


@pytest.mark.parametrize("task", ["question-answering", "token-classification"])
def test_a_head_that_is_not_there_is_one_line(tmp_path, run, task):
    folder = write_folder(tmp_path / "albert", CONFIG, google(CONFIG, "predictions"))
    outcome = run(folder, "-o", tmp_path, "--task", task)
    assert outcome.code == 1 and f"read as TensorFlow's weights for task {task}" in outcome.err
    assert "missing: " in outcome.err
