"""transformers' models under the names and in the layouts of Google's code and of brightmart's albert_zh."""

import json
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from .writer import write_tensorflow

CONFIG = {
    "attention_probs_dropout_prob": 0,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0,
    "embedding_size": 12,
    "hidden_size": 24,
    "initializer_range": 0.02,
    "intermediate_size": 40,
    "max_position_embeddings": 16,
    "num_attention_heads": 3,
    "num_hidden_layers": 4,
    "num_hidden_groups": 1,
    "net_structure_type": 0,
    "gap_size": 0,
    "num_memory_blocks": 0,
    "inner_group_num": 1,
    "down_scale_factor": 1,
    "type_vocab_size": 2,
    "vocab_size": 61,
}
BRIGHTMART_CONFIG = {
    "attention_probs_dropout_prob": 0.0,
    "directionality": "bidi",
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "hidden_size": 24,
    "embedding_size": 12,
    "initializer_range": 0.02,
    "intermediate_size": 40,
    "max_position_embeddings": 16,
    "num_attention_heads": 3,
    "num_hidden_layers": 4,
    "pooler_fc_size": 768,
    "pooler_num_attention_heads": 12,
    "pooler_num_fc_layers": 3,
    "pooler_size_per_head": 128,
    "pooler_type": "first_token_transform",
    "type_vocab_size": 2,
    "vocab_size": 61,
    "ln_type": "postln",
}
Tensors = dict[str, np.ndarray]


def _dense(generator: np.random.Generator, name: str, inner: int, outer: int) -> Tensors:
    return {
        f"{name}/kernel": generator.normal(0, 0.3, (inner, outer)).astype(np.float32),
        f"{name}/bias": generator.normal(0, 0.3, outer).astype(np.float32),
    }


def _norm(generator: np.random.Generator, name: str, size: int) -> Tensors:
    return {
        f"{name}/gamma": generator.normal(1, 0.3, size).astype(np.float32),
        f"{name}/beta": generator.normal(0, 0.3, size).astype(np.float32),
    }


def _rows(generator: np.random.Generator, name: str, rows: int, size: int) -> Tensors:
    """A head as the scripts make them: output_weights [out, in] and output_bias."""
    return {
        f"{name}output_weights": generator.normal(0, 0.3, (rows, size)).astype(np.float32),
        f"{name}output_bias": generator.normal(0, 0.3, rows).astype(np.float32),
    }


def google(config: Mapping[str, object], *heads: str, labels: int = 3, seed: int = 0) -> Tensors:
    """The variables of google-research/albert's modeling.py, and of the named heads' scripts."""
    generator = np.random.default_rng(seed)
    size: Callable[[str], int] = lambda name: int(config[name])  # type: ignore[call-overload]  # noqa: E731
    embedding, hidden, inner = size("embedding_size"), size("hidden_size"), size("intermediate_size")
    tensors = _embeddings(generator, config, embedding)
    if embedding != hidden:
        tensors |= _dense(generator, "bert/encoder/embedding_hidden_mapping_in", embedding, hidden)
    for group in range(size("num_hidden_groups")):
        for index in range(size("inner_group_num")):
            layer = f"bert/encoder/transformer/group_{group}/inner_group_{index}/"
            for part in ("query", "key", "value"):
                tensors |= _dense(generator, f"{layer}attention_1/self/{part}", hidden, hidden)
            tensors |= _dense(generator, f"{layer}attention_1/output/dense", hidden, hidden)
            tensors |= _norm(generator, f"{layer}LayerNorm", hidden)
            tensors |= _dense(generator, f"{layer}ffn_1/intermediate/dense", hidden, inner)
            tensors |= _dense(generator, f"{layer}ffn_1/intermediate/output/dense", inner, hidden)
            tensors |= _norm(generator, f"{layer}LayerNorm_1", hidden)
    tensors |= _dense(generator, "bert/pooler/dense", hidden, hidden)
    return tensors | _heads(generator, heads, config, embedding, labels)


def brightmart(config: Mapping[str, object], *heads: str, labels: int = 3) -> Tensors:
    """The variables of albert_zh's modeling.py: BERT's names, one shared layer, two factors of words."""
    generator = np.random.default_rng(1)
    size: Callable[[str], int] = lambda name: int(config[name])  # type: ignore[call-overload]  # noqa: E731
    embedding, hidden, inner = size("embedding_size"), size("hidden_size"), size("intermediate_size")
    tensors = _embeddings(generator, config, hidden)
    words = (size("vocab_size"), embedding)
    tensors["bert/embeddings/word_embeddings"] = generator.normal(0, 0.3, words).astype(np.float32)
    factor = generator.normal(0, 0.3, (embedding, hidden)).astype(np.float32)
    tensors["bert/embeddings/word_embeddings_2"] = factor
    layer = "bert/encoder/layer_shared/"
    for part in ("query", "key", "value"):
        tensors |= _dense(generator, f"{layer}attention/self/{part}", hidden, hidden)
    tensors |= _dense(generator, f"{layer}attention/output/dense", hidden, hidden)
    tensors |= _norm(generator, f"{layer}attention/output/LayerNorm", hidden)
    tensors |= _dense(generator, f"{layer}intermediate/dense", hidden, inner)
    tensors |= _dense(generator, f"{layer}output/dense", inner, hidden)
    tensors |= _norm(generator, f"{layer}output/LayerNorm", hidden)
    tensors |= _dense(generator, "bert/pooler/dense", hidden, hidden)
    return tensors | _heads(generator, heads, config, hidden, labels)


def _embeddings(generator: np.random.Generator, config: Mapping[str, object], size: int) -> Tensors:
    tables = {"word": "vocab_size", "position": "max_position_embeddings", "token_type": "type_vocab_size"}
    tensors = {
        f"bert/embeddings/{name}_embeddings": generator.normal(0, 0.3, (config[rows], size)).astype(
            np.float32
        )
        for name, rows in tables.items()
    }
    return tensors | _norm(generator, "bert/embeddings/LayerNorm", size)


def _heads(
    generator: np.random.Generator,
    heads: tuple[str, ...],
    config: Mapping[str, object],
    embedding: int,
    labels: int,
) -> Tensors:
    hidden, tensors = int(str(config["hidden_size"])), Tensors()
    if "predictions" in heads:
        transform = "cls/predictions/transform/"
        tensors |= _dense(generator, f"{transform}dense", hidden, embedding)
        tensors |= _norm(generator, f"{transform}LayerNorm", embedding)
        bias = generator.normal(0, 0.3, int(str(config["vocab_size"])))
        tensors["cls/predictions/output_bias"] = bias.astype(np.float32)
    if "seq_relationship" in heads:
        tensors |= _rows(generator, "cls/seq_relationship/", 2, hidden)
    if "classifier" in heads:
        tensors |= _rows(generator, "", labels, hidden)
    if "squad" in heads:
        tensors |= _rows(generator, "cls/squad/", 2, hidden)
    if "squad_v2" in heads:
        tensors |= _dense(generator, "start_logits/dense", hidden, 1)
        tensors |= _dense(generator, "end_logits/dense_0", 2 * hidden, hidden)
        tensors |= _norm(generator, "end_logits/LayerNorm", hidden)
        tensors |= _dense(generator, "end_logits/dense_1", hidden, 1)
        tensors |= _dense(generator, "answer_class/dense_0", 2 * hidden, hidden)
    return tensors


def slots(tensors: Tensors) -> Tensors:
    """What a training leaves beside the variables."""
    beside = {f"{name}/adam_{slot}": value * 0 for name, value in tensors.items() for slot in "mv"}
    return {**tensors, **beside, "global_step": np.int64(7), "beta1_power": np.float32(0.9)}


def write_folder(folder: Path, config: Mapping[str, object], tensors: Tensors, **options: object) -> Path:
    """A folder as the authors publish them; returns it."""
    write_tensorflow(folder, tensors, **options)  # type: ignore[arg-type]
    (folder / "albert_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def pretend_tensorflow(patch: pytest.MonkeyPatch, tensors: Tensors) -> None:
    """Let transformers' converter, which asks TensorFlow for the variables, find ``tensors``."""
    module = types.ModuleType("tensorflow")
    module.train = types.SimpleNamespace(  # type: ignore[attr-defined]
        list_variables=lambda path: [(name, list(value.shape)) for name, value in tensors.items()],
        load_variable=lambda path, name: np.array(tensors[name]),
    )
    patch.setitem(sys.modules, "tensorflow", module)
