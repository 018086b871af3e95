"""The one table of the 14 published ALBERT variants.

The values are PaddleNLP's. Two things that look odd are right: the English xxlarge models have 64 heads and
the Chinese one 16, and there are three activations (erf-GELU in v1 and Chinese tiny and small, tanh-GELU in
v2, ReLU in the other Chinese models).
"""

import difflib
from types import MappingProxyType

from albert_runtime.artifact.config import AlbertConfig

_ENGLISH_VOCABULARY = 30000
_CHINESE_VOCABULARY = 21128

# size -> (layers, hidden size, attention heads)
_ENGLISH_SIZES = {
    "base": (12, 768, 12),
    "large": (24, 1024, 16),
    "xlarge": (24, 2048, 16),
    "xxlarge": (12, 4096, 64),
}
# size -> (layers, hidden size, attention heads, activation, initializer range)
_CHINESE_SIZES = {
    "tiny": (4, 312, 12, "gelu", 0.02),
    "small": (6, 384, 12, "gelu", 0.02),
    "base": (12, 768, 12, "relu", 0.02),
    "large": (24, 1024, 16, "relu", 0.02),
    "xlarge": (24, 2048, 16, "relu", 0.014),
    "xxlarge": (12, 4096, 16, "relu", 0.01),
}


def _config(
    layers: int, hidden: int, heads: int, activation: str, *, vocabulary: int, initializer_range: float = 0.02
) -> AlbertConfig:
    return AlbertConfig(
        vocab_size=vocabulary,
        embedding_size=128,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_hidden_groups=1,
        inner_group_num=1,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        hidden_act=activation,
        max_position_embeddings=512,
        type_vocab_size=2,
        layer_norm_eps=1e-12,
        pad_token_id=0,
        padding_idx=0,
        add_pooling_layer=True,
        initializer_range=initializer_range,
    )


def _table() -> dict[str, AlbertConfig]:
    table = {}
    for version, activation in (("v1", "gelu"), ("v2", "gelu_new")):
        for size, (layers, hidden, heads) in _ENGLISH_SIZES.items():
            table[f"albert-{size}-{version}"] = _config(
                layers, hidden, heads, activation, vocabulary=_ENGLISH_VOCABULARY
            )
    for size, (layers, hidden, heads, activation, initializer_range) in _CHINESE_SIZES.items():
        table[f"albert-chinese-{size}"] = _config(
            layers,
            hidden,
            heads,
            activation,
            vocabulary=_CHINESE_VOCABULARY,
            initializer_range=initializer_range,
        )
    return table


VARIANTS = MappingProxyType(_table())


def nearest_variants(name: str, count: int = 3) -> list[str]:
    """Up to ``count`` variant names that resemble ``name``, the best first; empty if none does."""
    return difflib.get_close_matches(name.lower(), VARIANTS, n=count, cutoff=0.5)
