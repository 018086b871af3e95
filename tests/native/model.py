"""ALBERT twice, to test the engine: a weight file of random tensors, and the model in float64 numpy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from albert_runtime import _native
from albert_runtime.artifact.config import AlbertConfig

Float = NDArray[np.float32]
Int = NDArray[np.int32]

NOT_THE_ENGINES = {"pad_token_id", "initializer_range"}


def config(**changes: Any) -> AlbertConfig:
    sizes: dict[str, Any] = {
        "vocab_size": 50,
        "embedding_size": 24,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_hidden_groups": 1,
        "inner_group_num": 1,
        "num_attention_heads": 2,
        "intermediate_size": 96,
        "hidden_act": "gelu_new",
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
        "padding_idx": 0,
        "add_pooling_layer": True,
        "initializer_range": 0.02,
    }
    return AlbertConfig(**(sizes | changes))


@dataclass(frozen=True)
class Model:
    config: AlbertConfig
    path: Path
    tensors: dict[str, tuple[str, int, tuple[int, ...]]]
    values: dict[str, Float]

    def engine(self, isa: str | None = None, **changes: Any) -> _native.Engine:
        fields = {k: v for k, v in self.config.to_dict().items() if k not in NOT_THE_ENGINES}
        if fields["padding_idx"] is None:
            fields["padding_idx"] = -1
        arguments: dict[str, Any] = fields | {"isa": isa or _native.default_isa()} | changes
        return _native.Engine(
            str(arguments.pop("path", self.path)), arguments.pop("tensors", self.tensors), **arguments
        )


def make_model(folder: Path, cfg: AlbertConfig, scale: float = 0.1) -> Model:
    """Random weights in a file where every tensor begins at an odd offset."""
    rng = np.random.default_rng(0)
    path, tensors, values = folder / "weights.bin", {}, {}
    with path.open("wb") as file:
        for name, shape in cfg.tensor_shapes().items():
            value = rng.standard_normal(shape).astype(np.float32) * np.float32(scale)
            if name.endswith("norm.weight"):
                value += 1
            file.write(b"#" * (1 + file.tell() % 2))
            tensors[name] = ("float32", file.tell(), tuple(shape))
            values[name] = value
            file.write(value.tobytes())
    return Model(cfg, path, tensors, values)


@dataclass(frozen=True)
class Tokens:
    """Packed tokens as Engine.run takes them."""

    input_ids: Int
    positions: Int
    token_type_ids: Int
    row_starts: Int
    masked_first: Int

    @property
    def width(self) -> int:
        return int(self.positions.max()) + 1


def tokens(lengths: Sequence[int], seed: int = 0, vocab_size: int = 50) -> Tokens:
    """Rows of these lengths, each determined by its place and length alone."""
    rows = [np.random.default_rng([seed, i, length]) for i, length in enumerate(lengths)]
    count = len(lengths)
    return Tokens(
        np.concatenate([r.integers(0, vocab_size, n) for r, n in zip(rows, lengths, strict=True)]).astype(
            np.int32
        ),
        np.concatenate([np.arange(n) for n in lengths]).astype(np.int32),
        np.concatenate([r.integers(0, 2, n) for r, n in zip(rows, lengths, strict=True)]).astype(np.int32),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        np.zeros(count, np.int32),
    )


def row(t: Tokens, index: int) -> Tokens:
    """One row as a batch of its own."""
    first, end = t.row_starts[index], t.row_starts[index + 1]
    return Tokens(
        t.input_ids[first:end],
        t.positions[first:end],
        t.token_type_ids[first:end],
        np.array([0, end - first], np.int32),
        t.masked_first[index : index + 1],
    )


def run(engine: _native.Engine, hidden_size: int, t: Tokens, threads: int = 1) -> tuple[Float, Float]:
    rows = len(t.masked_first)
    hidden = np.zeros((rows, t.width, hidden_size), np.float32)
    pooled = np.empty((rows, hidden_size), np.float32)
    engine.run(
        t.input_ids, t.positions, t.token_type_ids, t.row_starts, t.masked_first, hidden, pooled, threads
    )
    return hidden, pooled


def run_pooled(engine: _native.Engine, hidden_size: int, t: Tokens, threads: int = 1) -> Float:
    pooled = np.empty((len(t.masked_first), hidden_size), np.float32)
    engine.run(
        t.input_ids, t.positions, t.token_type_ids, t.row_starts, t.masked_first, None, pooled, threads
    )
    return pooled


ACTIVATIONS = {
    "gelu": lambda x: 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "gelu_new": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
}


def to_bf16(x: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rounded to the nearest bfloat16, ties to even."""
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16
    normal = (bits & 0x7FFFFFFF) >= 0x00800000
    return np.where(normal, rounded, 0).astype(np.uint32).view(np.float32).astype(np.float64)


def to_int8(x: NDArray[np.floating], axis: int) -> tuple[NDArray[np.float64], Float]:
    """The integers nearest to x * 127 / max|x| along an axis, and what one of them is worth."""
    x = x.astype(np.float32)
    peak = np.abs(x).max(axis, keepdims=True)
    factor = np.divide(np.float32(127), peak, out=np.zeros_like(peak), where=peak > 0)
    return np.rint(x * factor).astype(np.float64), peak / np.float32(127)


def product(x: NDArray[np.floating], w: NDArray[np.floating], precision: str) -> NDArray[np.float64]:
    """x @ w as a precision multiplies, but in float64."""
    if precision == "bf16":
        return to_bf16(x) @ to_bf16(w)
    if precision == "int8":
        (left, row_worth), (right, column_worth) = to_int8(x, -1), to_int8(w, 0)
        return left @ right * row_worth.astype(np.float64) * column_worth
    return x.astype(np.float64) @ w.astype(np.float64)


def reference(
    model: Model, t: Tokens, precision: str = "fp32"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """PaddleNLP's AlbertModel in float64, a row at a time: (hidden, pooled), padded as the engine's.

    ``precision`` rounds what the layers' matrices multiply; attention and its result, and what the FFN has
    inside, are bf16 in int8 too.
    """
    c = model.config
    w = {name: value.astype(np.float64) for name, value in model.values.items()}

    def linear(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        inside = precision if "albert_layers" in name else "fp32"
        return product(x, w[name + ".weight"], inside) + w[name + ".bias"]

    def norm(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + c.layer_norm_eps)
        return scaled * w[name + ".weight"] + w[name + ".bias"]

    def layer(x: NDArray[np.float64], name: str, masked_first: int) -> NDArray[np.float64]:
        heads = (len(x), c.num_attention_heads, c.head_size)
        q, k, v = (linear(x, f"{name}.attention.{part}").reshape(heads) for part in ("query", "key", "value"))
        rounded = (lambda values: values) if precision == "fp32" else to_bf16
        scores = np.einsum("qhd,khd->hqk", rounded(q), rounded(k[masked_first:])) / math.sqrt(c.head_size)
        weights = rounded(np.exp(scores - scores.max(-1, keepdims=True)))
        weights /= weights.sum(-1, keepdims=True)
        context = np.einsum("hqk,khd->qhd", weights, rounded(v[masked_first:])).reshape(x.shape)
        x = norm(x + linear(rounded(context), name + ".attention.dense"), name + ".attention.layer_norm")
        inner = rounded(ACTIVATIONS[c.hidden_act](linear(x, name + ".ffn")))
        inner = linear(inner, name + ".ffn_output")
        return norm(inner + x, name + ".full_layer_layer_norm")

    hidden = np.zeros((len(t.masked_first), t.width, c.hidden_size))
    pooled = np.zeros((len(t.masked_first), c.hidden_size))
    for i, (first, end) in enumerate(zip(t.row_starts[:-1], t.row_starts[1:], strict=True)):
        ids = t.input_ids[first:end]
        words = w["embeddings.word_embeddings.weight"][ids] * (ids != c.padding_idx)[:, None]
        x = words + w["embeddings.token_type_embeddings.weight"][t.token_type_ids[first:end]]
        x = x + w["embeddings.position_embeddings.weight"][t.positions[first:end]]
        x = linear(norm(x, "embeddings.layer_norm"), "encoder.embedding_hidden_mapping_in")
        for depth in range(c.num_hidden_layers):
            group = int(depth / (c.num_hidden_layers / c.num_hidden_groups))
            for inner in range(c.inner_group_num):
                name = f"encoder.albert_layer_groups.{group}.albert_layers.{inner}"
                x = layer(x, name, int(t.masked_first[i]))
        seen = slice(int(t.masked_first[i]), None)
        hidden[i, t.positions[first:end][seen]] = x[seen]
        if c.add_pooling_layer:
            pooled[i] = np.tanh(linear(x[0], "pooler"))
    return hidden, pooled
