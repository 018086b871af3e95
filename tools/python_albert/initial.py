"""Initial values: gradient steps are not spent on what counting can find.

Word embeddings start as the leading singular vectors of co-occurrences (positive pointwise mutual information
with the next, the previous and the neighbouring pieces), position embeddings as sine waves, and the decoder's
bias as the log frequencies of the pieces. Six heads start by attending one to three positions to the left or
right, which random heads need most of a short training to learn. Everything else is random.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AlbertConfig, AlbertForMaskedLM

from .batches import Rows
from .vocabulary import SPECIAL

Float = NDArray[np.float32]
WORD_SIZE, POSITION_SIZE, NEIGHBOURHOOD = 0.05, 0.035, 4
# Radians per position of the fastest and the slowest wave.
FASTEST, SLOWEST = 2.5, 0.02
OFFSETS = (-1, 1, -2, 2, -3, 3)
SHARPNESS = 1.35


@torch.no_grad()
def set_initial_values(model: AlbertForMaskedLM, rows: Rows, rng: np.random.Generator) -> None:
    """Set every parameter of the model; frequencies are counted in ``rows``."""
    config = model.config
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and "embeddings." not in name:
            # Glorot's rule: a matrix preserves the scale of its input, whatever its width.
            torch.nn.init.xavier_normal_(parameter)
    embeddings = model.albert.embeddings
    _copy(embeddings.word_embeddings.weight, _word_vectors(config, rows, rng))
    _copy(embeddings.position_embeddings.weight, _waves(config))
    _look_at_neighbours(model, rng)
    counts = np.zeros(config.vocab_size)
    for group in rows.by_width.values():
        counts += np.bincount(group.ravel(), minlength=config.vocab_size)
    counts[: len(SPECIAL)] = 0.0
    _copy(model.predictions.bias, np.log((counts + 0.5) / counts.sum()) + 8.0)


def _copy(parameter: torch.Tensor, values: NDArray[np.floating]) -> None:
    parameter.copy_(torch.from_numpy(np.ascontiguousarray(values, np.float32)))


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


def _look_at_neighbours(model: AlbertForMaskedLM, rng: np.random.Generator) -> None:
    """Query and key of the first heads: the product of a wave turned by an offset and the wave itself.

    The sum over waves of cos(frequency * (place + offset - other place)) is largest at the offset.
    """
    config = model.config
    embedding, hidden = config.embedding_size, config.hidden_size
    size = hidden // config.num_attention_heads
    # Orthogonal columns of equal length: the waves can be recovered from the hidden states.
    mapping = np.linalg.qr(rng.standard_normal((hidden, embedding)))[0] * np.sqrt(hidden / embedding)
    back = mapping.T * (embedding / hidden)
    _copy(model.albert.encoder.embedding_hidden_mapping_in.weight, mapping)
    _copy(model.predictions.dense.weight, back)
    attention = model.albert.encoder.albert_layer_groups[0].albert_layers[0].attention
    waves = np.arange(0, size, 2)
    sine, cosine = back[waves], back[embedding // 2 + waves]
    for head, offset in enumerate(OFFSETS):
        turn = (offset * _frequencies(config)[waves])[:, None]
        turned = (sine * np.cos(turn) + cosine * np.sin(turn), cosine * np.cos(turn) - sine * np.sin(turn))
        rows = slice(head * size, (head + 1) * size)
        _copy(attention.query.weight[rows], SHARPNESS * np.concatenate(turned))
        _copy(attention.key.weight[rows], SHARPNESS * np.concatenate((sine, cosine)))
