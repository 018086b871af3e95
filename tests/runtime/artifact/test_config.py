"""AlbertConfig: validation, the tensor table and the exact parameter count."""

import json
import math
from dataclasses import replace

import pytest

from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.errors import AlbertError, ArtifactError

BASE = AlbertConfig(
    vocab_size=30000,
    embedding_size=128,
    hidden_size=768,
    num_hidden_layers=12,
    num_hidden_groups=1,
    inner_group_num=1,
    num_attention_heads=12,
    intermediate_size=3072,
    hidden_act="gelu_new",
    max_position_embeddings=512,
    type_vocab_size=2,
    layer_norm_eps=1e-12,
    pad_token_id=0,
    padding_idx=0,
    add_pooling_layer=True,
    initializer_range=0.02,
)


def test_dict_round_trip_through_json():
    assert AlbertConfig.from_dict(json.loads(json.dumps(BASE.to_dict()))) == BASE


def test_head_size_and_count():
    assert BASE.head_size == 64
    assert BASE.parameter_count() == 11_683_584
    assert replace(BASE, add_pooling_layer=False).parameter_count() == 11_092_992


@pytest.mark.parametrize("pooler", [True, False])
@pytest.mark.parametrize(("groups", "inner"), [(1, 1), (2, 1), (3, 2)])
def test_tensor_shapes_sum_to_parameter_count(groups, inner, pooler):
    config = replace(BASE, num_hidden_groups=groups, inner_group_num=inner, add_pooling_layer=pooler)
    shapes = config.tensor_shapes()
    assert sum(math.prod(shape) for shape in shapes.values()) == config.parameter_count()
    assert len(shapes) == 7 + 16 * groups * inner + 2 * pooler
    assert ("pooler.weight" in shapes) is pooler


def test_tensor_shapes_are_in_out():
    shapes = BASE.tensor_shapes()
    prefix = "encoder.albert_layer_groups.0.albert_layers.0."
    assert shapes[prefix + "ffn.weight"] == (768, 3072)
    assert shapes[prefix + "ffn_output.weight"] == (3072, 768)
    assert shapes["encoder.embedding_hidden_mapping_in.weight"] == (128, 768)


def test_group_of_layer():
    config = replace(BASE, num_hidden_layers=6, num_hidden_groups=3)
    assert [config.group_of_layer(layer) for layer in range(6)] == [0, 0, 1, 1, 2, 2]
    # transformers' int(i / (layers / groups)); in exact numbers layer 9 of 18 in 14 groups would use group 7.
    uneven = replace(BASE, num_hidden_layers=5, num_hidden_groups=2)
    assert [uneven.group_of_layer(layer) for layer in range(5)] == [0, 0, 0, 1, 1]
    uneven = replace(BASE, num_hidden_groups=5)
    assert [uneven.group_of_layer(layer) for layer in range(12)] == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4]
    rounded = replace(BASE, num_hidden_layers=18, num_hidden_groups=14)
    assert [rounded.group_of_layer(layer) for layer in (8, 9, 10)] == [6, 6, 7]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("vocab_size", 0, "vocab_size must lie between 1"),
        ("vocab_size", "30000", "vocab_size must be a whole number"),
        ("vocab_size", 30000.0, "vocab_size must be a whole number"),
        ("num_hidden_layers", True, "num_hidden_layers must be a whole number"),
        ("num_hidden_layers", 10**9, "num_hidden_layers must lie between"),
        ("num_hidden_groups", 13, "must not exceed num_hidden_layers"),
        ("num_attention_heads", 7, "multiple of num_attention_heads"),
        ("hidden_act", "swish", "hidden_act must be one of gelu, gelu_new, relu"),
        ("hidden_act", ["gelu"], "hidden_act must be one of"),
        ("layer_norm_eps", 0.0, "layer_norm_eps must lie between"),
        ("layer_norm_eps", math.nan, "layer_norm_eps must lie between"),
        ("layer_norm_eps", None, "layer_norm_eps must be a number"),
        ("initializer_range", math.inf, "initializer_range must lie between"),
        ("pad_token_id", 30000, "pad_token_id must lie between 0 and 29999"),
        ("padding_idx", -1, "padding_idx must lie between"),
        ("add_pooling_layer", 1, "add_pooling_layer must be true or false"),
    ],
)
def test_bad_field_is_named(field, value, words):
    with pytest.raises(ArtifactError, match=words):
        AlbertConfig.from_dict({**BASE.to_dict(), field: value})


def test_missing_and_unknown_fields_are_named():
    values = BASE.to_dict()
    del values["hidden_act"]
    with pytest.raises(AlbertError, match="hidden_act is missing"):
        AlbertConfig.from_dict(values)
    with pytest.raises(AlbertError, match="'colour' is unknown"):
        AlbertConfig.from_dict({**BASE.to_dict(), "colour": 3})


def test_padding_idx_may_be_none():
    assert replace(BASE, padding_idx=None).padding_idx is None
