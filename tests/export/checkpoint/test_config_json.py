"""config.json of either library and every age: sizes, task, labels; and what is wrong with a bad one."""

import json
import shutil

import pytest

from albert_export.checkpoint.config_json import HUGGING_FACE, PADDLENLP, parse_config
from albert_export.checkpoint.folder import read_folder
from albert_export.errors import ExportError
from albert_runtime.artifact import tasks
from albert_runtime.errors import AlbertError, ArtifactError

FLAT = {
    "architectures": ["AlbertModel"],
    "model_type": "albert",
    "vocab_size": 503,
    "hidden_size": 128,
    "num_attention_heads": 4,
    "bos_token_id": 2,
}


def test_missing_fields_take_the_defaults_of_the_library():
    config = parse_config({}, PADDLENLP).config
    assert (config.hidden_size, config.num_attention_heads, config.intermediate_size) == (768, 12, 3072)
    assert (config.hidden_act, config.num_hidden_layers, config.padding_idx) == ("gelu", 12, 0)
    config = parse_config({}, HUGGING_FACE).config
    assert (config.hidden_size, config.num_attention_heads, config.intermediate_size) == (4096, 64, 16384)
    assert (config.hidden_act, config.num_hidden_layers, config.padding_idx) == ("gelu_new", 12, None)
    config = parse_config(FLAT, HUGGING_FACE).config
    assert (config.vocab_size, config.hidden_size, config.num_attention_heads) == (503, 128, 4)


def test_the_defaults_are_transformers_own():
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AlbertConfig().to_dict()
    ours = parse_config({}, HUGGING_FACE).config.to_dict()
    del ours["padding_idx"], ours["add_pooling_layer"]
    assert ours == {name: theirs[name] for name in ours}


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("AlbertModel", tasks.MODEL),
        ("AlbertForMaskedLM", tasks.MASKED_LM),
        ("AlbertForPretraining", tasks.PRETRAINING),
        ("AlbertForPreTraining", tasks.PRETRAINING),
        ("AlbertForSequenceClassification", tasks.SEQUENCE_CLASSIFICATION),
        ("AlbertForTokenClassification", tasks.TOKEN_CLASSIFICATION),
        ("AlbertForQuestionAnswering", tasks.QUESTION_ANSWERING),
        ("AlbertForMultipleChoice", tasks.MULTIPLE_CHOICE),
    ],
)
def test_tasks(architecture, task):
    old = {"init_args": [{"vocab_size": 503, "init_class": "AlbertModel"}], "init_class": architecture}
    assert parse_config(old, PADDLENLP).task() == task
    for library in (PADDLENLP, HUGGING_FACE):
        assert parse_config({**FLAT, "architectures": [architecture]}, library).task() == task


def test_unsaid_and_unknown_tasks():
    assert parse_config({}, PADDLENLP).task() == tasks.MODEL
    assert parse_config({**FLAT, "architectures": None}, HUGGING_FACE).task() == tasks.MODEL
    with pytest.raises(ExportError, match="architecture CustomAlbert is unknown; say with --task"):
        parse_config({**FLAT, "architectures": ["CustomAlbert"]}, HUGGING_FACE).task()


def test_old_configs():
    old = {"vocab_size": 503, "hidden_act": "relu", "init_class": "AlbertModel"}
    assert parse_config(old, PADDLENLP).config.hidden_act == "relu"
    nested = {"init_args": [old], "init_class": "AlbertModel"}
    assert parse_config(nested, PADDLENLP) == parse_config(old, PADDLENLP)
    for classes in ({"init_args": [old, 5]}, {"init_args": [old], "num_classes": 5}):
        description = parse_config({**classes, "init_class": "AlbertForTokenClassification"}, PADDLENLP)
        assert description.config.hidden_act == "relu"
        assert description.labels == tuple(f"LABEL_{index}" for index in range(5))


def test_null_means_the_default():
    for library in (PADDLENLP, HUGGING_FACE):
        fields = [
            *parse_config({}, library).config.to_dict(),
            "id2label",
            "label2id",
            "num_labels",
            "init_args",
        ]
        fields += [
            "model_type",
            "architectures",
            "tie_word_embeddings",
            "problem_type",
            "sentence_transformers",
        ]
        nulls = dict.fromkeys([*fields, "position_embedding_type", "init_class"])
        assert parse_config(nulls, library) == parse_config({}, library)
    assert parse_config({"init_args": [dict.fromkeys(fields)]}, PADDLENLP) == parse_config({}, PADDLENLP)


def test_a_negative_pad_id_counts_from_the_end():
    transformers = pytest.importorskip("transformers")
    sizes = {
        "vocab_size": 9,
        "embedding_size": 4,
        "hidden_size": 4,
        "num_attention_heads": 1,
        "pad_token_id": -1,
    }
    model = transformers.AlbertModel(transformers.AlbertConfig(**sizes, intermediate_size=4))
    assert parse_config(sizes, HUGGING_FACE).config.pad_token_id == 8
    assert model.embeddings.word_embeddings.padding_idx == 8


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_activations(activation):
    assert parse_config({"hidden_act": activation}, HUGGING_FACE).config.hidden_act == activation


@pytest.mark.parametrize("alias", ["gelu_python", "gelu_fast", "gelu_pytorch_tanh", "gelu_accurate"])
def test_other_names_of_the_activations(alias):
    torch = pytest.importorskip("torch")
    functions = pytest.importorskip("transformers.activations").ACT2FN
    name = parse_config({"hidden_act": alias}, HUGGING_FACE).config.hidden_act
    x = torch.linspace(-6, 6, 1001, dtype=torch.float64)
    torch.testing.assert_close(functions[alias](x), functions[name](x), rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ({}, ("LABEL_0", "LABEL_1")),
        ({"num_labels": 3}, ("LABEL_0", "LABEL_1", "LABEL_2")),
        ({"id2label": {"1": "no", "0": "yes", "2": "比"}, "label2id": {}}, ("yes", "no", "比")),
        ({"label2id": {"B": 1, "A": 0}, "num_labels": 2}, ("A", "B")),
        ({"id2label": {"0": 5}}, ("5",)),
        ({"id2label": {"2": "c", "0": None}}, ("LABEL_0", "LABEL_1", "c")),
        ({"label2id": {"a": 1, "b": 0, "c": 1}}, ("b",)),
        ({"num_labels": 3, "id2label": {"0": "a", "1": "b"}}, ("a", "b")),
    ],
)
def test_labels(values, labels):
    assert parse_config(values, PADDLENLP).labels == labels


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architectures": "AlbertModel"}, "architectures is not a list"),
        ({"architectures": [3]}, "architectures is not a list"),
        ({"model_type": "bert"}, "model_type is 'bert'"),
        ({"position_embedding_type": "relative_key"}, "only absolute ones"),
        ({"hidden_act": "swish"}, "hidden_act must be one of"),
        ({"hidden_act": ["relu"]}, "hidden_act must be one of"),
        ({"hidden_size": 105}, "multiple of num_attention_heads"),
        ({"num_hidden_layers": "12"}, "num_hidden_layers must be a whole number"),
        ({"init_args": {}}, "init_args is not a list"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings must be true or false"),
        ({"num_labels": 0}, "num_labels must be a whole number from 1"),
        ({"num_labels": True}, "num_labels must be a whole number from 1"),
        ({"num_classes": 1 << 40}, "num_classes must be a whole number from 1"),
        ({"id2label": ["a"]}, "id2label is not an object"),
        ({"id2label": {}}, "id2label is empty"),
        ({"id2label": {"one": "a"}}, "id2label does not number its labels from 0 on: it has 'one'"),
        ({"id2label": {"9" * 9: "a"}}, "id2label does not number its labels"),
        ({"id2label": {"0": ["a"]}}, "a label that is no text"),
        ({"label2id": {"a": -1}}, "label2id does not number its labels"),
        ({"label2id": ["a"]}, "label2id is not an object"),
        ({"id2label": {"0": "\ud800"}}, "lone surrogate"),
    ],
)
def test_bad_configs_are_named(tmp_path, changes, words):
    (tmp_path / "config.json").write_text(json.dumps({**FLAT, **changes}))
    with pytest.raises(AlbertError, match=words) as caught:
        read_folder(tmp_path)
    assert str(tmp_path / "config.json") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000, b" " * (1 << 25)])
def test_unreadable_configs(tmp_path, data):
    (tmp_path / "config.json").write_bytes(data)
    with pytest.raises(ArtifactError, match=r"config\.json: "):
        read_folder(tmp_path)


def test_the_library_of_a_folder(tmp_path, golden):
    def library(mark):
        (tmp_path / "config.json").write_text(json.dumps({**FLAT, **mark}))
        return read_folder(tmp_path).description.library

    paddlenlp, hugging_face = {"paddlenlp_version": None}, {"transformers_version": "4.57.6"}
    assert [library(mark) for mark in ({}, paddlenlp, hugging_face)] == [PADDLENLP, PADDLENLP, HUGGING_FACE]
    (tmp_path / "pytorch_model.bin").touch()
    assert [library(mark) for mark in ({}, paddlenlp, hugging_face)] == [HUGGING_FACE] * 3
    shutil.copy(golden / "model-gelu" / "model_state.pdparams", tmp_path)
    assert [library(mark) for mark in ({}, paddlenlp, hugging_face)] == [PADDLENLP, PADDLENLP, HUGGING_FACE]
    (tmp_path / "pytorch_model.bin").unlink()
    assert library(hugging_face) == PADDLENLP
