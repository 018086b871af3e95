"""Adds outliers that do not change a model: channels scaled up, and the inverse folded into the next weights.

Trained ALBERTs have a few channels many times larger than the rest. Int8 with one scale per tensor then has
too few steps left for the others. In float32 the model computes the same.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

_LAYER = "albert.encoder.albert_layer_groups.0.albert_layers.0."
# (producer, consumer) of the channels. A ReLU lets channels be scaled through it; a GELU does not.
_PAIRS = (
    (f"{_LAYER}attention.value", f"{_LAYER}attention.dense"),
    ("albert.embeddings.LayerNorm", "albert.encoder.embedding_hidden_mapping_in"),
)
_RELU = (f"{_LAYER}ffn", f"{_LAYER}ffn_output")
_QUERY, _KEY = f"{_LAYER}attention.query", f"{_LAYER}attention.key"


def add_outliers(
    checkpoint: Path, folder: Path, factor: float = 20.0, share: float = 1 / 32, seed: int = 0
) -> Path:
    """Write a transformers checkpoint of one group to ``folder``, with a share of its channels scaled."""
    shutil.copytree(checkpoint, folder)
    path = folder / "model.safetensors"
    tensors = {name: values.astype(np.float32) for name, values in load_file(path).items()}
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    generator = np.random.default_rng(seed)
    relu = [_RELU] if config["hidden_act"] == "relu" else []
    for source, target in (*_PAIRS, *relu):
        chosen = _choose(generator, len(tensors[f"{source}.bias"]), share)
        for name in _both(source):
            tensors[name][chosen] *= factor  # for a matrix [out, in], its rows
        tensors[f"{target}.weight"][:, chosen] /= factor
    # Attention scores sum products of query and key channels, in which the factors cancel out.
    chosen = _choose(generator, len(tensors[f"{_QUERY}.bias"]), share)
    for name in _both(_QUERY):
        tensors[name][chosen] *= factor
    for name in _both(_KEY):
        tensors[name][chosen] /= factor
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


def _choose(generator: np.random.Generator, channels: int, share: float) -> np.ndarray:
    return generator.choice(channels, max(1, round(channels * share)), replace=False)


def _both(name: str) -> Iterator[str]:
    return (f"{name}.{part}" for part in ("weight", "bias"))
