"""--hidden-states: what comes after every layer, on every backend, against transformers' own."""

import json

import numpy as np
import pytest

from albert_export.cli import main
from albert_runtime import InputError, Predictor
from albert_runtime.artifact import tasks
from albert_runtime.artifact.manifest import Manifest
from albert_runtime.serve.limits import ServerLimits
from albert_runtime.serve.model import Model

pytest.importorskip("transformers")

from .checkpoint.test_huggingface import make, make_inputs, torch

BACKENDS = ("native", "onnxruntime", "paddle")
SETTINGS = {
    tasks.MODEL: {"num_hidden_groups": 2, "inner_group_num": 2},
    tasks.MASKED_LM: {"hidden_act": "gelu"},
    tasks.TOKEN_CLASSIFICATION: {"hidden_act": "relu"},
    tasks.SEQUENCE_CLASSIFICATION: {},
}
LAYERS, HIDDEN = 4, 24


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """exported(task, *options) -> (the model of transformers, the folder of its artifact), made once."""
    made = {}

    def export(task, *options):
        if (task, *options) not in made:
            folder = tmp_path_factory.mktemp("states")
            model = make(task, **SETTINGS[task])
            model.save_pretrained(folder / "model")
            arguments = [str(folder / "model"), "-o", str(folder / "out"), "--hidden-states", "--quiet"]
            assert main([*arguments, *options]) == 0
            made[(task, *options)] = model, folder / "out"
        return made[(task, *options)]

    return export


def states_of(model, inputs):
    """[B, T, L + 1, H] of transformers in float64."""
    with torch.no_grad():
        tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
        states = model.double()(**tensors, output_hidden_states=True).hidden_states
    return np.stack([state.numpy() for state in states], axis=2)


@pytest.mark.parametrize("task", SETTINGS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_they_are_those_of_transformers(exported, task, backend):
    model, folder = exported(task)
    inputs = make_inputs(task)
    wanted = states_of(model, inputs)
    answer = Predictor(folder, backend=backend).run(inputs)
    assert list(answer)[-1] == "hidden_states"
    found, kept = answer["hidden_states"], inputs["attention_mask"] == 1
    assert found.dtype == np.float32 and found.shape == (*kept.shape, LAYERS + 1, HIDDEN)
    assert np.abs(found[kept] - wanted[kept]).max() < 2e-5 < np.abs(wanted).max()
    assert not found[~kept].any()
    if task == tasks.MODEL:
        assert np.array_equal(found[:, :, -1], answer["last_hidden_state"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_holes_and_left_padding(exported, backend):
    """Wherever the padding lies, a masked position holds zeros at every depth."""
    _, folder = exported(tasks.MODEL)
    inputs = make_inputs(tasks.MODEL)
    inputs["attention_mask"][1], inputs["attention_mask"][2] = [0, 0, 0, 1, 1, 1, 1, 1, 1], [1, 0] * 4 + [1]
    found = Predictor(folder, backend=backend).run(inputs)["hidden_states"]
    expected = Predictor(folder, backend="native").run(inputs)["hidden_states"]
    assert not found[inputs["attention_mask"] == 0].any()
    assert found[inputs["attention_mask"] == 1].any(axis=-1).all()
    assert np.abs(found - expected).max() < 2e-5


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_a_sequence_has_the_same_bits_alone_and_in_any_batch(exported, precision):
    _, folder = exported(tasks.MODEL)
    predictor = Predictor(folder, precision=precision)
    rows = [[5, 6, 7, 8, 9], [3], [10, 11, 12], [4] * 16]
    together = predictor.run(rows)["hidden_states"]
    for index, row in enumerate(rows):
        alone = predictor.run([row])["hidden_states"][0]
        assert np.array_equal(alone, together[index, : len(row)])
    one_thread = Predictor(folder, precision=precision, num_threads=1).run(rows)["hidden_states"]
    assert np.array_equal(one_thread, together)


@pytest.mark.parametrize("task", [tasks.MODEL, tasks.SEQUENCE_CLASSIFICATION])
@pytest.mark.parametrize("backend", BACKENDS)
def test_asking_for_some_outputs_changes_none(exported, task, backend):
    predictor = Predictor(exported(task)[1], backend=backend)
    inputs = make_inputs(task)
    whole = predictor.run(inputs)
    for names in (["hidden_states"], [next(iter(whole))], [list(whole)[-2], "hidden_states"]):
        some = predictor.run(inputs, outputs=names)
        assert list(some) == names
        assert all(np.array_equal(some[name], whole[name]) for name in names)


def test_many_callers_get_theirs(exported):
    predictor = Predictor(exported(tasks.MODEL)[1])
    rows = [[[5, 6, 7]], [[8], [9, 10]], [[3] * 16]]
    futures = [predictor.submit(batch) for batch in rows]
    for batch, future in zip(rows, futures, strict=True):
        assert np.array_equal(future.result()["hidden_states"], predictor.run(batch)["hidden_states"])


@pytest.mark.parametrize("options", [("--fp16",), ("--int8",), ("--format", "json")])
def test_other_precisions_and_the_other_format(exported, options):
    random = ("--random-weights", "3") if options == ("--int8",) else ()
    model, folder = exported(tasks.MODEL, *options, *random)
    inputs = make_inputs(tasks.MODEL)
    for backend in BACKENDS[:1] if options[0] == "--fp16" else BACKENDS:
        found = Predictor(folder, backend=backend).run(inputs)["hidden_states"]
        assert found.shape == (*inputs["input_ids"].shape, LAYERS + 1, HIDDEN) and found.any()
        if not random:
            kept = inputs["attention_mask"] == 1
            wanted = states_of(model, inputs)[kept]
            assert np.abs(found[kept] - wanted).max() < (0.05 if options[0] == "--fp16" else 2e-5)


def test_servers_tell_their_shape(exported):
    predictor = Predictor(exported(tasks.MODEL)[1])
    model = Model("states", "1", predictor, predictor.manifest, ServerLimits())
    assert model.outputs()[-1] == ("hidden_states", "FP32", [-1, -1, LAYERS + 1, HIDDEN])


def test_the_manifest_says_so_and_one_without_stays_as_it_was(exported):
    (file,) = exported(tasks.MODEL)[1].glob("*.manifest.json")
    manifest = Manifest.read(file)
    assert manifest.outputs == ("last_hidden_state", "pooled_output", "hidden_states")
    data = json.loads(file.read_text())
    assert data["head"]["hidden_states"] is True and Manifest.from_dict(data).to_dict() == manifest.to_dict()
    for backend in BACKENDS:
        assert manifest.verification["backends"][backend]["hidden_states"]["cosine"] > 0.999999
    data["head"], data["outputs"] = None, data["outputs"][:2]
    del data["proof"]  # which has them, too
    assert Manifest.from_dict(data).to_dict()["head"] is None


def test_a_model_exported_without_them_does_not_know_them(export_artifact, golden):
    predictor = Predictor(export_artifact(golden / "model-gelu"))
    with pytest.raises(InputError, match="output 'hidden_states' is unknown; this model has last_hidden_st"):
        predictor.run([[1, 2]], outputs=["hidden_states"])


def test_multiple_choice_has_none(run, golden, tmp_path):
    outcome = run(golden / "multiple-choice", "-o", tmp_path, "--hidden-states")
    assert outcome.code == 2 and "--hidden-states is for models with rows of tokens" in outcome.err
    assert not list(tmp_path.iterdir())
