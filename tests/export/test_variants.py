"""The 14 variants against literal numbers."""

import pytest

from albert_export.variants import VARIANTS, nearest_variants

# layers, hidden, heads, head size, intermediate, activation, vocabulary, initializer range, parameters
EXPECTED = {
    "albert-base-v1": (12, 768, 12, 64, 3072, "gelu", 30000, 0.02, 11_683_584),
    "albert-large-v1": (24, 1024, 16, 64, 4096, "gelu", 30000, 0.02, 17_683_968),
    "albert-xlarge-v1": (24, 2048, 16, 128, 8192, "gelu", 30000, 0.02, 58_724_864),
    "albert-xxlarge-v1": (12, 4096, 64, 64, 16384, "gelu", 30000, 0.02, 222_595_584),
    "albert-base-v2": (12, 768, 12, 64, 3072, "gelu_new", 30000, 0.02, 11_683_584),
    "albert-large-v2": (24, 1024, 16, 64, 4096, "gelu_new", 30000, 0.02, 17_683_968),
    "albert-xlarge-v2": (24, 2048, 16, 128, 8192, "gelu_new", 30000, 0.02, 58_724_864),
    "albert-xxlarge-v2": (12, 4096, 64, 64, 16384, "gelu_new", 30000, 0.02, 222_595_584),
    "albert-chinese-tiny": (4, 312, 12, 26, 1248, "gelu", 21128, 0.02, 4_080_520),
    "albert-chinese-small": (6, 384, 12, 32, 1536, "gelu", 21128, 0.02, 4_742_272),
    "albert-chinese-base": (12, 768, 12, 64, 3072, "relu", 21128, 0.02, 10_547_968),
    "albert-chinese-large": (24, 1024, 16, 64, 4096, "relu", 21128, 0.02, 16_548_352),
    "albert-chinese-xlarge": (24, 2048, 16, 128, 8192, "relu", 21128, 0.014, 57_589_248),
    "albert-chinese-xxlarge": (12, 4096, 16, 256, 16384, "relu", 21128, 0.01, 221_459_968),
}


def test_all_fourteen_are_there():
    assert list(VARIANTS) == list(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_config_and_parameter_count(name):
    config = VARIANTS[name]
    actual = (
        config.num_hidden_layers,
        config.hidden_size,
        config.num_attention_heads,
        config.head_size,
        config.intermediate_size,
        config.hidden_act,
        config.vocab_size,
        config.initializer_range,
        config.parameter_count(),
    )
    assert actual == EXPECTED[name]
    common = (config.num_hidden_groups, config.inner_group_num, config.embedding_size)
    assert common == (1, 1, 128)
    assert (config.max_position_embeddings, config.type_vocab_size, config.layer_norm_eps) == (512, 2, 1e-12)
    assert (config.pad_token_id, config.padding_idx, config.add_pooling_layer) == (0, 0, True)


def test_nearest_names():
    assert nearest_variants("albert-bse-v2")[0] == "albert-base-v2"
    assert nearest_variants("ALBERT-Chinese-Tny")[0] == "albert-chinese-tiny"
    assert nearest_variants("resnet50") == []
