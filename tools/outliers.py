"""Outliers that leave a model what it is: channels scaled up, the inverse folded into the next weights.

Trained ALBERTs have channels many times as great as the others, and int8 that gives a whole tensor one scale
has no steps left for those. In float32 the model computed is the same.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

_LAYER = "albert.encoder.albert_layer_groups.0.albert_layers.0."
# (what gives the channels, what takes them). A ReLU's channels may be scaled too, those of a GELU may not.
_PAIRS = (
    (f"{_LAYER}attention.value", f"{_LAYER}attention.dense"),
    ("albert.embeddings.LayerNorm", "albert.encoder.embedding_hidden_mapping_in"),
)
_RELU = (f"{_LAYER}ffn", f"{_LAYER}ffn_output")
_QUERY, _KEY = f"{_LAYER}attention.query", f"{_LAYER}attention.key"


def add_outliers(
    checkpoint: Path, folder: Path, factor: float = 20.0, share: float = 1 / 32, seed: int = 0
) -> Path:
    """Write a transformers checkpoint of one group to ``folder``, that share of its channels scaled."""
    shutil.copytree(checkpoint, folder)
    path = folder / "model.safetensors"
    tensors = {name: values.astype(np.float32) for name, values in load_file(path).items()}
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    generator = np.random.default_rng(seed)
    relu = [_RELU] if config["hidden_act"] == "relu" else []
    for source, target in (*_PAIRS, *relu):
        chosen = _choose(generator, len(tensors[f"{source}.bias"]), share)
        for name in _both(source):
            tensors[name][chosen] *= factor  # a matrix [out, in] by its rows
        tensors[f"{target}.weight"][:, chosen] /= factor
    # Scores are sums over the channels of a head, of a product in which the factors cancel out.
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
