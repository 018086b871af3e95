"""PaddleNLP folders: configs of every age, and weight files that fit or are told why not."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from albert_export.checkpoint import check_same_model, parse_config, read_folder, read_weights
from albert_export.errors import ExportError
from albert_runtime.errors import AlbertError, ArtifactError

FLAT = {
    "architectures": ["AlbertModel"],
    "model_type": "albert",
    "vocab_size": 503,
    "hidden_size": 104,
    "num_attention_heads": 4,
    "paddlenlp_version": None,
    "bos_token_id": 2,
}


def test_golden_folder(golden):
    checkpoint = read_folder(golden / "model-groups")
    config = checkpoint.config
    assert (config.num_hidden_groups, config.inner_group_num, config.num_hidden_layers) == (2, 2, 4)
    assert (config.hidden_act, config.padding_idx, config.max_position_embeddings) == ("gelu_new", 0, 64)
    assert checkpoint.weights == golden / "model-groups" / "model_state.pdparams"
    assert checkpoint.tokenizer is None


def test_missing_fields_take_paddlenlps_defaults():
    config = parse_config(FLAT)
    assert (config.vocab_size, config.hidden_size, config.num_attention_heads) == (503, 104, 4)
    assert (config.hidden_act, config.num_hidden_layers, config.intermediate_size) == ("gelu", 12, 3072)
    assert (config.layer_norm_eps, config.padding_idx, config.add_pooling_layer) == (1e-12, 0, True)


def test_old_configs():
    old = {"vocab_size": 503, "hidden_act": "relu", "init_class": "AlbertModel"}
    assert parse_config(old).hidden_act == "relu"
    nested = {"init_args": [old], "init_class": "AlbertModel"}
    assert parse_config(nested) == parse_config(old)
    with pytest.raises(ExportError, match="AlbertForMaskedLM has a task head"):
        parse_config({"init_args": [old], "init_class": "AlbertForMaskedLM"})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"architectures": ["AlbertForSequenceClassification"]},
            "has a task head, which this version does not",
        ),
        ({"architectures": "AlbertModel"}, "architectures is not a list"),
        ({"model_type": "bert"}, "model_type is 'bert'"),
        ({"hidden_act": "swish"}, "hidden_act must be one of"),
        ({"hidden_size": 105}, "multiple of num_attention_heads"),
        ({"num_hidden_layers": "12"}, "num_hidden_layers must be a whole number"),
        ({"init_args": {}}, "init_args is not a list"),
    ],
)
def test_bad_configs_are_named(tmp_path, changes, words):
    (tmp_path / "config.json").write_text(json.dumps({**FLAT, **changes}))
    with pytest.raises(AlbertError, match=words) as caught:
        read_folder(tmp_path)
    assert str(tmp_path / "config.json") in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000, b" " * (1 << 21)])
def test_unreadable_configs(tmp_path, data):
    (tmp_path / "config.json").write_bytes(data)
    with pytest.raises(ArtifactError, match=r"config\.json: "):
        read_folder(tmp_path)


def test_folders_that_are_no_checkpoints(tmp_path):
    with pytest.raises(ExportError, match=r"no config\.json or model_config\.json"):
        read_folder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(FLAT))
    with pytest.raises(ExportError, match=r"holds no model_state\.pdparams; name the file with --weights"):
        read_folder(tmp_path).weights_file()
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ExportError, match="Hugging Face"):
        read_folder(tmp_path).weights_file()


def write(tmp_path, state):
    path = tmp_path / "model_state.pdparams"
    path.write_bytes(pickle.dumps(state, 4))
    return path


@pytest.mark.parametrize("prefix", ["", "transformer.", "albert."])
def test_prefixes_and_spare_entries(tmp_path, tiny, tiny_tensors, prefix):
    state = {prefix + name: value for name, value in tiny_tensors.items()}
    state[prefix + "embeddings.position_ids"] = np.arange(40)[None]
    state["StructuredToParameterName@@"] = {"a": "b"}
    state["predictions.bias"] = np.zeros(60, np.float32)
    tensors, heads = read_weights(write(tmp_path, state), tiny)
    assert heads == ["predictions.bias"]
    assert tensors.keys() == tiny.tensor_shapes().keys()
    for name, value in tiny_tensors.items():
        np.testing.assert_array_equal(tensors[name], value)


def test_half_precision_is_widened(tmp_path, tiny, tiny_tensors):
    state = {name: value.astype(np.float16) for name, value in tiny_tensors.items()}
    tensors, _ = read_weights(write(tmp_path, state), tiny)
    assert all(value.dtype == np.float32 for value in tensors.values())
    np.testing.assert_array_equal(tensors["pooler.bias"], state["pooler.bias"].astype(np.float32))


def test_every_problem_is_listed(tmp_path, tiny, tiny_tensors):
    state = dict(tiny_tensors)
    del state["pooler.bias"]
    state["classifier.weight"] = np.zeros((12, 2), np.float32)
    state["pooler.weight"] = np.zeros((12, 13), np.float32)
    state["embeddings.layer_norm.bias"] = np.zeros(8)
    state["embeddings.layer_norm.weight"] = "text"
    with pytest.raises(ExportError) as caught:
        read_weights(write(tmp_path, state), tiny)
    message = str(caught.value)
    assert "missing: embeddings.layer_norm.weight, pooler.bias" in message
    assert "unexpected: embeddings.layer_norm.weight, classifier.weight" in message
    assert "of another shape: pooler.weight [12, 13] instead of [12, 12]" in message
    assert "of another type: embeddings.layer_norm.bias float64" in message


def test_a_tensor_under_two_names_is_refused(tmp_path, tiny, tiny_tensors):
    state = {**tiny_tensors, "albert.pooler.bias": np.zeros(12, np.float32)}
    with pytest.raises(ExportError, match=r"unexpected: albert\.pooler\.bias"):
        read_weights(write(tmp_path, state), tiny)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers(tmp_path, tiny, tiny_tensors, value):
    tiny_tensors["pooler.bias"][3] = value
    with pytest.raises(ExportError, match=r"pooler\.bias that is no finite number"):
        read_weights(write(tmp_path, tiny_tensors), tiny)


def test_weights_of_another_model(golden):
    checkpoint = read_folder(golden / "model-gelu")
    wanted = replace(checkpoint.config, hidden_act="gelu_new", initializer_range=0.5)
    with pytest.raises(ExportError, match="hidden_act 'gelu' instead of 'gelu_new'") as caught:
        check_same_model("albert-base-v2", wanted, checkpoint)
    assert "initializer_range" not in str(caught.value)
    check_same_model("x", checkpoint.config, checkpoint)
