"""Checkpoints as training loops leave them are read as what transformers itself saves of the same model."""

import json

import numpy as np
import pytest

from albert_export.checkpoint.folder import read_folder
from albert_export.checkpoint.wrappers import unwrapped, without_wrappers
from albert_export.cli import _parser
from albert_export.errors import ExportError
from albert_export.sources import resolve
from albert_runtime.artifact import tasks
from albert_runtime.errors import AlbertError

from .test_huggingface import edit_config, make

torch = pytest.importorskip("torch")


def resolved(*arguments):
    options = _parser().parse_args([str(argument) for argument in arguments])
    return resolve(options, lambda variant: pytest.fail("nothing is fetched"))


def tensors_of(source):
    return dict(source.weights.load(source.config, source.head)[0])


def same(folder, state, task, tmp_path, *arguments, **changes):
    """``state``, saved in place of the folder's weights, is read as what save_pretrained wrote is."""
    wanted, _ = resolved(folder, "--task", task)
    wanted_tensors = tensors_of(wanted)
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    edit_config(folder, **changes)
    found, line = resolved(folder, *arguments)
    assert (found.config, found.head, found.labels) == (wanted.config, wanted.head, wanted.labels)
    assert line.endswith(f"task {task}")
    tensors = tensors_of(found)
    assert tensors.keys() == wanted_tensors.keys()
    assert all(np.array_equal(tensors[name], wanted_tensors[name]) for name in tensors)
    return found


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module.", "model.", "net.student."])
@pytest.mark.parametrize("task", [tasks.MODEL, tasks.SEQUENCE_CLASSIFICATION, tasks.MASKED_LM])
def test_prefixes_before_everything(tmp_path, task, prefix):
    model = make(task)
    model.save_pretrained(tmp_path)
    same(tmp_path, {prefix + name: value for name, value in model.state_dict().items()}, task, tmp_path)


@pytest.mark.parametrize("prefix", ["encoder.", "bert.", "0.auto_model.", "module.encoder.", "transformer."])
def test_the_attribute_that_holds_the_encoder(tmp_path, prefix):
    model = make(tasks.MODEL)
    model.save_pretrained(tmp_path)
    same(
        tmp_path, {prefix + name: value for name, value in model.state_dict().items()}, tasks.MODEL, tmp_path
    )


@pytest.mark.parametrize("wrapper", ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
def test_wrappers_within_the_model(tmp_path, wrapper):
    model = make(tasks.SEQUENCE_CLASSIFICATION)
    model.save_pretrained(tmp_path)
    places = {"albert_layers.0.": f"albert_layers.0.{wrapper}.", "albert.": f"albert.{wrapper}."}
    state = {}
    for name, value in model.state_dict().items():
        for place, wrapped in places.items():
            name = name.replace(place, wrapped, 1)  # noqa: PLW2901
        state[f"{wrapper}.{name}"] = value
    same(tmp_path, state, tasks.SEQUENCE_CLASSIFICATION, tmp_path)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_head_of_a_class_of_ones_own(tmp_path, prefix):
    """self.encoder = AlbertModel(...), self.classifier = Linear(...)."""
    model = make(tasks.SEQUENCE_CLASSIFICATION)
    model.save_pretrained(tmp_path)
    state = {prefix + name.replace("albert.", "encoder.", 1): v for name, v in model.state_dict().items()}
    found = same(
        tmp_path, state, model_task := tasks.SEQUENCE_CLASSIFICATION, tmp_path, architectures=["Mine"]
    )
    assert found.notes == (f"the config names no task of ours: {model_task}, by its tensors",)


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "net", "model_state_dict"])
@pytest.mark.parametrize("zipped", [True, False])
def test_the_dict_of_a_training_loop(tmp_path, wrapper, zipped):
    """With the optimizer's state beside it, whose keys are numbers."""
    model = make(tasks.MODEL)
    model.save_pretrained(tmp_path)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3, dtype=torch.long)).last_hidden_state.sum().backward()
    optimizer.step()
    state = {f"module.{name}": value for name, value in model.state_dict().items()}
    whole = {wrapper: state, "step": 5, "loss": 0.5, "optimizer": optimizer.state_dict(), "best": None}
    wanted = {name: value.numpy() for name, value in model.state_dict().items()}
    file = tmp_path / "step_5.t7"
    torch.save(whole, file, _use_new_zipfile_serialization=zipped)
    found, _ = resolved(tmp_path, "--weights", file)
    tensors = tensors_of(found)
    np.testing.assert_array_equal(tensors["pooler.weight"], wanted["pooler.weight"].T)
    assert len(tensors) == len(wanted)


@pytest.mark.parametrize("suffix", ["bin", "pt", "pth", "ckpt", "t7"])
def test_whatever_the_file_is_called(tmp_path, suffix):
    model = make(tasks.MODEL)
    model.save_pretrained(tmp_path)
    torch.save({"state_dict": model.state_dict()}, tmp_path / f"mine.{suffix}")
    found, _ = resolved(tmp_path, "--weights", tmp_path / f"mine.{suffix}")
    assert len(tensors_of(found)) == 25


def test_heads_of_ones_own_beside_the_encoder(tmp_path):
    """PL-BERT's: {"net": module.encoder.* and two linear maps}. Whoever asks for the encoder gets it."""
    model = make(tasks.MODEL)
    model.save_pretrained(tmp_path)
    state = {f"module.encoder.{name}": value for name, value in model.state_dict().items()}
    state |= {
        "module.mask_predictor.weight": torch.ones(3, 24),
        "module.word_predictor.weight": torch.ones(5, 24),
    }
    torch.save({"net": state}, tmp_path / "step.t7")
    with pytest.raises(ExportError, match=r"unexpected: module\.mask_predictor\.weight, module\.word_pred"):
        resolved(tmp_path, "--weights", tmp_path / "step.t7")
    found, _ = resolved(tmp_path, "--weights", tmp_path / "step.t7", "--task", "model")
    tensors, left_out = found.weights.load(found.config, found.head)
    assert len(dict(tensors)) == 25
    assert left_out == ["mask_predictor.weight", "word_predictor.weight"]


def test_two_models_in_one_file(tmp_path):
    model = make(tasks.MODEL)
    model.save_pretrained(tmp_path)
    state = {f"{side}.{name}": v for side in ("query", "passage") for name, v in model.state_dict().items()}
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(
        ExportError, match=r"2 embedding tables, behind the prefixes passage\., query\.; save"
    ):
        resolved(tmp_path, "--weights", tmp_path / "pytorch_model.bin")


def test_a_name_twice():
    words = "embeddings.word_embeddings.weight"
    with pytest.raises(ExportError, match=r"holds a twice, once as m\.b\.a"):
        without_wrappers({f"m.b.{words}": 1, "m.a": 2, "m.b.a": 3})


def test_dicts_without_a_model():
    assert unwrapped({"step": 1}) == {"step": 1}
    nested = {"model": {"model": {"model": {"model": {}}}}}
    assert unwrapped(nested) == {"model": {}}


def test_what_no_state_dict_needs_is_refused_with_a_remedy(tmp_path):
    make(tasks.MODEL).save_pretrained(tmp_path)
    torch.save({"state_dict": {}, "hyper_parameters": tmp_path}, tmp_path / "lightning.ckpt")
    with pytest.raises(AlbertError, match=r"pathlib.*or save its state dict alone") as caught:
        resolved(tmp_path, "--weights", tmp_path / "lightning.ckpt")
    assert "\n" not in str(caught.value)


UNSAID = [{"architectures": None}, {"architectures": ["Mine"]}, {"architectures": None, "model_type": None}]


@pytest.mark.parametrize("changes", UNSAID)
@pytest.mark.parametrize("task", [task for task in tasks.TASKS if task != tasks.MULTIPLE_CHOICE])
def test_the_task_by_its_tensors(tmp_path, task, changes):
    make(task).save_pretrained(tmp_path)
    edit_config(tmp_path, **changes)
    source, line = resolved(tmp_path)
    assert source.head.task == task and line.endswith(f"task {task}")
    assert source.notes[0] == f"the config names no task of ours: {task}, by its tensors"


def test_a_task_that_the_tensors_leave_open(tmp_path, write_checkpoint, tiny):
    make(tasks.MULTIPLE_CHOICE).save_pretrained(tmp_path / "one")
    edit_config(tmp_path / "one", architectures=None)
    with pytest.raises(ExportError, match="give --task: sequence-classification, multiple-choice"):
        resolved(tmp_path / "one")
    assert resolved(tmp_path / "one", "--task", "multiple-choice")[0].head.task == "multiple-choice"
    head = tasks.Head.of(tasks.TOKEN_CLASSIFICATION, num_labels=3)
    shapes = {**tiny.tensor_shapes(), **head.tensor_shapes(tiny)}
    tensors = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    folder = write_checkpoint(tmp_path / "two", tiny, tensors, "Mine")
    with pytest.raises(ExportError, match="give --task: sequence-classification, token-classification"):
        resolved(folder)
    assert read_folder(folder).description.says_task is False
    folder = write_checkpoint(
        tmp_path / "three", tiny, tensors | {"qa_outputs.weight": np.ones((12, 2))}, "Mine"
    )
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["Mine"]
    with pytest.raises(
        ExportError, match=r"holds classifier and qa_outputs, .* give --task: model, masked-lm"
    ):
        resolved(folder)
