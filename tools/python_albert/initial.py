"""Starting values: what counting can find out is not left to gradient steps.

Words get the leading singular vectors of their co-occurrences (positive pointwise mutual information with
the next, the previous and the neighbouring pieces), positions sines of their place, the decoder's bias the
logarithm of the pieces' frequencies. Six of the heads begin by looking one to three places to the left or the
right, which random heads take most of a short training to find. Everything else is random numbers.
"""

import numpy as np
from numpy.typing import NDArray

from albert_runtime.config import AlbertConfig

from .batches import Rows
from .network import LAYER, tensor_shapes
from .vocabulary import SPECIAL

Float = NDArray[np.float32]
WORD_SIZE, POSITION_SIZE, NEIGHBOURHOOD = 0.05, 0.035, 4
# Radians a place, of the fastest and the slowest wave.
FASTEST, SLOWEST = 2.5, 0.02
OFFSETS = (-1, 1, -2, 2, -3, 3)
SHARPNESS = 1.35


def initial_values(config: AlbertConfig, rows: Rows, rng: np.random.Generator) -> dict[str, Float]:
    """A value for every parameter."""
    values = {}
    for name, shape in tensor_shapes(config).items():
        # A matrix keeps the size of what passes it, whatever its width: Glorot's rule.
        value = rng.normal(0.0, np.sqrt(2.0 / sum(shape)), shape)
        if name.startswith("embeddings."):
            value = rng.normal(0.0, config.initializer_range, shape)
        if name.endswith("norm.weight"):
            value = np.ones(shape)
        elif name.endswith("bias"):
            value = np.zeros(shape)
        values[name] = value.astype(np.float32)
    values["embeddings.word_embeddings.weight"] = _word_vectors(config, rows, rng)
    values["embeddings.position_embeddings.weight"] = _waves(config)
    _look_at_neighbours(config, values, rng)
    counts = np.zeros(config.vocab_size)
    for group in rows.by_width.values():
        counts += np.bincount(group.ravel(), minlength=config.vocab_size)
    counts[: len(SPECIAL)] = 0.0
    values["predictions.bias"] = np.log((counts + 0.5) / counts.sum()).astype(np.float32) + 8.0
    return values


def _word_vectors(config: AlbertConfig, rows: Rows, rng: np.random.Generator) -> Float:
    size = config.vocab_size
    information = []
    for distances in ((1,), (-1,), tuple(range(-NEIGHBOURHOOD, 0)) + tuple(range(1, NEIGHBOURHOOD + 1))):
        counts = np.zeros((size, size), np.float32)
        for group in rows.by_width.values():
            for distance in distances:
                here, there = (
                    (group[:, :-distance], group[:, distance:])
                    if distance > 0
                    else (
                        group[:, -distance:],
                        group[:, :distance],
                    )
                )
                both = (here >= len(SPECIAL)) & (there >= len(SPECIAL))
                pairs = here[both] * size + there[both]
                counts += np.bincount(pairs, minlength=size * size).reshape(size, size).astype(np.float32)
        total = counts.sum()
        expected = np.outer(counts.sum(1) + 1.0, (counts.sum(0) + 1.0) ** 0.75)
        expected *= total / expected.sum()
        information.append(np.log(np.maximum(counts / expected, 1.0)))
    matrix = np.concatenate(information, axis=1).astype(np.float32)
    # Leading left singular vectors by subspace iteration.
    width = config.embedding_size
    basis = rng.standard_normal((size, width + 32)).astype(np.float32)
    for _ in range(6):
        basis = np.linalg.qr(matrix @ (matrix.T @ basis))[0]
    left, strength, _ = np.linalg.svd(basis.T @ matrix, full_matrices=False)
    vectors = (basis @ left[:, :width]) * np.sqrt(strength[:width])
    length = np.sqrt((vectors**2).mean(1, keepdims=True))
    noise = rng.normal(0.0, 0.01, vectors.shape)
    return (WORD_SIZE * vectors / np.maximum(length, 1e-3) + noise).astype(np.float32)


def _waves(config: AlbertConfig) -> Float:
    angle = np.arange(config.max_position_embeddings)[:, None] * _frequencies(config)
    waves = POSITION_SIZE * np.sqrt(2.0) * np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
    return np.asarray(waves, np.float32)


def _frequencies(config: AlbertConfig) -> NDArray[np.float64]:
    return np.geomspace(FASTEST, SLOWEST, config.embedding_size // 2)


def _look_at_neighbours(config: AlbertConfig, values: dict[str, Float], rng: np.random.Generator) -> None:
    """Query and key of the first heads: the product of a wave turned by an offset and the wave itself.

    The sum over waves of cos(frequency * (place + offset - other place)) is largest at the offset.
    """
    embedding, hidden, size = config.embedding_size, config.hidden_size, config.head_size
    mapping = np.linalg.qr(rng.standard_normal((hidden, embedding)))[0].T * np.sqrt(hidden / embedding)
    values["encoder.embedding_hidden_mapping_in.weight"] = mapping.astype(np.float32)
    back = mapping.T * (embedding / hidden)
    values["predictions.dense.weight"] = back.astype(np.float32)
    waves = np.arange(0, size, 2)
    sine, cosine = back[:, waves], back[:, embedding // 2 + waves]
    for head, offset in enumerate(OFFSETS[: config.num_attention_heads]):
        turn = offset * _frequencies(config)[waves]
        columns = slice(head * size, (head + 1) * size)
        turned = (sine * np.cos(turn) + cosine * np.sin(turn), cosine * np.cos(turn) - sine * np.sin(turn))
        for part, pair in (("query", turned), ("key", (sine, cosine))):
            matrix = values[f"{LAYER}attention.{part}.weight"]
            matrix[:, columns] = SHARPNESS * np.concatenate(pair, axis=1)
