"""Checkpoints of google-research/albert: our reading, in float64, against transformers' own converter."""

import copy
import json

import numpy as np
import pytest

from albert_export.checkpoint.config_json import TENSORFLOW
from albert_export.checkpoint.folder import read_folder
from albert_export.errors import ExportError
from albert_export.sources import checkpoint_source
from albert_runtime.artifact import tasks
from albert_runtime.errors import AlbertError

from ...albert_float64 import answers
from ..test_huggingface import difference, make_inputs, theirs
from .models import CONFIG, google, pretend_tensorflow, slots, write_folder

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from transformers.models.albert.modeling_albert import load_tf_weights_in_albert  # noqa: E402


def converted(monkeypatch, tensors, config, class_name="AlbertForPreTraining", **options):
    """The model that transformers makes of a checkpoint, whose gelu it is told to be TensorFlow's."""
    pretend_tensorflow(monkeypatch, tensors)
    settings = transformers.AlbertConfig(**{**config, "hidden_act": "gelu_new"}, **options)
    model = getattr(transformers, class_name)(settings)
    load_tf_weights_in_albert(model, settings, "/anywhere")
    if hasattr(model, "predictions"):
        model.predictions.decoder.bias = model.predictions.bias
    return model.eval()


def read(folder, task=None):
    """(config, head, tensors, left out) of a folder."""
    checkpoint = read_folder(folder)
    description = checkpoint.description
    assert description.library == TENSORFLOW
    task_given = task is not None
    task = task or description.task()
    plan = checkpoint_source(description, checkpoint.weights_file(), task, task_given=task_given)
    tensors, left_out = plan.weights.load(plan.config, plan.head)
    return plan.config, plan.head, dict(tensors), left_out


def check(folder, model, task, asked=None, tolerance=1e-9):
    config, head, tensors, _ = read(folder, asked)
    assert head.task == task and config.padding_idx is None
    inputs = make_inputs(task)
    ours, wanted = answers(config, head, tensors, inputs), theirs(copy.deepcopy(model), task, inputs)
    assert difference(ours, wanted, inputs["attention_mask"]) < tolerance


@pytest.mark.parametrize(("groups", "inner"), [(1, 1), (2, 1), (2, 2)])
def test_pretraining_as_transformers_converts_it(tmp_path, monkeypatch, capsys, groups, inner):
    config = {**CONFIG, "num_hidden_groups": groups, "inner_group_num": inner}
    tensors = google(config, "predictions", "seq_relationship")
    model = converted(monkeypatch, tensors, config)
    write_folder(tmp_path, config, slots(tensors))
    check(tmp_path, model, tasks.PRETRAINING)
    check(tmp_path, model.albert, tasks.MODEL, tasks.MODEL)


def test_a_classifier(tmp_path, monkeypatch):
    tensors = google(CONFIG, "classifier", labels=5)
    model = converted(monkeypatch, tensors, CONFIG, "AlbertForSequenceClassification", num_labels=5)
    check(write_folder(tmp_path, CONFIG, tensors), model, tasks.SEQUENCE_CLASSIFICATION)
    assert read_folder(tmp_path).description.labels == ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3", "LABEL_4")


def test_a_tagger_where_the_user_says_so(tmp_path, monkeypatch):
    """The scripts of taggers name the same variables, and multiply them with every token."""
    tensors = google(CONFIG, "classifier", labels=5)
    encoder = {name: value for name, value in tensors.items() if not name.startswith("bert/pooler/")}
    model = converted(monkeypatch, encoder, CONFIG, "AlbertForTokenClassification", num_labels=5)
    folder = write_folder(tmp_path, CONFIG, tensors)
    check(folder, model, tasks.TOKEN_CLASSIFICATION, tasks.TOKEN_CLASSIFICATION)


def test_one_column_is_a_choice_where_the_user_says_so(tmp_path, monkeypatch):
    """run_race.py and a regression of run_classifier.py write the same variables."""
    tensors = google(CONFIG, "classifier", labels=1)
    folder = write_folder(tmp_path, CONFIG, tensors)
    assert read(folder)[1].task == tasks.SEQUENCE_CLASSIFICATION
    model = converted(monkeypatch, tensors, CONFIG, "AlbertForMultipleChoice")
    check(folder, model, tasks.MULTIPLE_CHOICE, tasks.MULTIPLE_CHOICE)


def test_spans_of_run_squad_v1(tmp_path, monkeypatch):
    """transformers' converter knows no cls/squad; its weights are the rows of qa_outputs, start first."""
    tensors = google(CONFIG, "squad")
    encoder = {
        name: value for name, value in tensors.items() if not name.startswith(("cls/", "bert/pooler/"))
    }
    base = converted(monkeypatch, encoder, CONFIG, "AlbertForQuestionAnswering")
    with torch.no_grad():
        base.qa_outputs.weight.copy_(torch.from_numpy(tensors["cls/squad/output_weights"]))
        base.qa_outputs.bias.copy_(torch.from_numpy(tensors["cls/squad/output_bias"]))
    check(write_folder(tmp_path, CONFIG, tensors), base, tasks.QUESTION_ANSWERING)


def test_spans_of_run_squad_v2_are_refused_and_its_encoder_taken(tmp_path, monkeypatch):
    tensors = google(CONFIG, "squad_v2")
    folder = write_folder(tmp_path, CONFIG, tensors)
    with pytest.raises(ExportError, match=r"run_squad_v2 .* say with --task what to export"):
        read(folder)
    encoder = {name: value for name, value in tensors.items() if name.startswith("bert/")}
    check(folder, converted(monkeypatch, encoder, CONFIG, "AlbertModel"), tasks.MODEL, tasks.MODEL)
    with pytest.raises(ExportError, match=r"missing: qa_outputs.weight"):
        read(folder, tasks.QUESTION_ANSWERING)


@pytest.mark.parametrize(("heads", "task"), [(("predictions",), tasks.MASKED_LM), ((), tasks.MODEL)])
def test_the_heads_tell_the_task(tmp_path, monkeypatch, heads, task):
    tensors = google(CONFIG, *heads)
    class_name = {tasks.MASKED_LM: "AlbertForMaskedLM", tasks.MODEL: "AlbertModel"}[task]
    # A masked LM of transformers has no pooler, and its converter stumbles over one.
    known = {name: value for name, value in tensors.items() if not heads or "pooler" not in name}
    check(write_folder(tmp_path, CONFIG, tensors), converted(monkeypatch, known, CONFIG, class_name), task)


def test_a_tf_hub_module(tmp_path, monkeypatch):
    tensors = {f"module/{name}": value for name, value in google(CONFIG, "predictions").items()}
    model = converted(monkeypatch, tensors, CONFIG).albert
    check(write_folder(tmp_path, CONFIG, tensors), model, tasks.MODEL, tasks.MODEL)


def test_embeddings_as_wide_as_the_layers_have_no_map(tmp_path, monkeypatch):
    """Google's code leaves embedding_hidden_mapping_in out; transformers' converter leaves it random."""
    config = {**CONFIG, "embedding_size": 24}
    tensors = google(config)
    assert not any("mapping" in name for name in tensors)
    model = converted(monkeypatch, tensors, config, "AlbertModel")
    with torch.no_grad():
        model.encoder.embedding_hidden_mapping_in.weight.copy_(torch.eye(24))
        model.encoder.embedding_hidden_mapping_in.bias.zero_()
    check(write_folder(tmp_path, config, tensors), model, tasks.MODEL)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits(tmp_path, monkeypatch, dtype):
    tensors = google(CONFIG)
    exact = {name: torch.from_numpy(value).to(getattr(torch, dtype)) for name, value in tensors.items()}
    model = converted(monkeypatch, {k: v.float().numpy() for k, v in exact.items()}, CONFIG, "AlbertModel")
    stored = {name: value.view(torch.uint16).numpy() for name, value in exact.items()}
    if dtype == "float16":
        stored = {name: value.view(np.float16) for name, value in stored.items()}
    write_folder(tmp_path, CONFIG, stored, dtypes=dict.fromkeys(stored, dtype))
    check(tmp_path, model, tasks.MODEL)


def test_gelu_is_tensorflows(tmp_path):
    """modeling.py of both authors has one gelu, 0.5 * x * (1 + tanh(...)), which others call gelu_new."""
    folder = write_folder(tmp_path, CONFIG, google(CONFIG))
    description = read_folder(folder).description
    assert description.config.hidden_act == "gelu_new"
    assert "gelu is TensorFlow's, the tanh form, gelu_new elsewhere" in description.notes
    folder = write_folder(tmp_path, {**CONFIG, "hidden_act": "gelu_python"}, google(CONFIG))
    description = read_folder(folder).description
    assert (description.config.hidden_act, description.notes) == ("gelu", ())
    # A config.json is transformers' own, and its gelu the erf form.
    folder = write_folder(tmp_path, CONFIG, google(CONFIG))
    (folder / "albert_config.json").rename(folder / "config.json")
    assert read_folder(folder).description.config.hidden_act == "gelu"


def test_fields_that_are_null_or_left_out_have_googles_defaults(tmp_path):
    folder = write_folder(tmp_path, dict.fromkeys(CONFIG), {})
    config = read_folder(folder).description.config
    assert (config.hidden_size, config.num_attention_heads, config.intermediate_size) == (4096, 64, 16384)
    assert (config.embedding_size, config.num_hidden_layers, config.type_vocab_size) == (128, 12, 2)
    assert (config.hidden_act, config.layer_norm_eps) == ("gelu_new", 1e-12)
    assert config == read_folder(write_folder(tmp_path, {}, {})).description.config


REFUSED = {
    "preln": ({"ln_type": "preln"}, r"albert_config.json: ln_type is 'preln': LayerNorm comes before"),
    "activation": ({"hidden_act": "tanh"}, "hidden_act must be one of gelu, gelu_new, relu, not 'tanh'"),
    "rounding": ({"num_hidden_layers": 22, "num_hidden_groups": 22}, "computes layer 15 of 22 with another"),
    "heads": ({"num_attention_heads": 5}, "must be a multiple of num_attention_heads"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_configs(tmp_path, case):
    changes, words = REFUSED[case]
    folder = write_folder(tmp_path, {**CONFIG, **changes}, google(CONFIG))
    with pytest.raises(AlbertError, match=words) as caught:
        read_folder(folder)
    assert "\n" not in str(caught.value)


def test_googles_rounding_of_groups():
    """int(layer / layers * groups) in modeling.py; transformers has int(layer / (layers / groups))."""
    assert [int(layer / 22 * 22) for layer in range(22)][15] == 14
    assert [int(layer / (22 / 22)) for layer in range(22)][15] == 15


def test_other_models_are_told_by_their_names(tmp_path):
    bert = {"bert/encoder/layer_0/attention/self/query/kernel": np.zeros((24, 24), np.float32)}
    with pytest.raises(ExportError, match=r"unexpected: bert/encoder/layer_0/attention/self/query/kernel"):
        read(write_folder(tmp_path / "bert", CONFIG, google(CONFIG) | bert))
    objects = {"_CHECKPOINTABLE_OBJECT_GRAPH": np.zeros(3, np.float32)}
    with pytest.raises(ExportError, match=r"TensorFlow 2's objects.*save_pretrained"):
        read(write_folder(tmp_path / "objects", CONFIG, objects))
    grouped = google(CONFIG)
    name = "bert/encoder/transformer/group_0/inner_group_0/ffn_1/intermediate/dense/kernel"
    grouped[name] = np.zeros((4, 6, 10), np.float32)  # tiny_google_fast of albert_zh
    with pytest.raises(ExportError, match=rf"of another shape: {name} \[4, 6, 10\] instead of \[24, 40\]"):
        read(write_folder(tmp_path / "grouped", CONFIG, grouped))


def test_the_numbers_would_tell_a_missed_transpose(tmp_path, monkeypatch):
    """Square maps pass every check of shapes: each of them, turned, must change the answers."""
    config = {**CONFIG, "hidden_size": 24, "intermediate_size": 24}
    tensors = google(config, "classifier")
    model = converted(monkeypatch, tensors, config, "AlbertForSequenceClassification", num_labels=3)
    config, head, ours, _ = read(write_folder(tmp_path, config, tensors))
    inputs = make_inputs(head.task)
    wanted = theirs(model, head.task, inputs)
    square = [name for name, value in ours.items() if value.shape == (24, 24)]
    assert len(square) == 7
    for name in square:
        turned = answers(config, head, ours | {name: ours[name].T}, inputs)
        assert difference(turned, wanted, inputs["attention_mask"]) > 1e-3, name


def test_an_origin_that_says_tensorflow(tmp_path):
    folder = write_folder(tmp_path, CONFIG, google(CONFIG), shards=2)
    checkpoint = read_folder(folder)
    plan = checkpoint_source(checkpoint.description, checkpoint.weights_file(), tasks.MODEL, task_given=False)
    assert plan.weights.origin("f00") == {
        "kind": "checkpoint",
        "format": "tensorflow",
        "files": ["model.ckpt-7.index", *(f"model.ckpt-7.data-0000{n}-of-00002" for n in range(2))],
        "sha256": "f00",
    }
    assert json.loads((folder / "albert_config.json").read_text())["hidden_act"] == "gelu"
