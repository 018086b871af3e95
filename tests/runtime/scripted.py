"""A model whose every output is decided by the test, behind a real tokenizer."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from albert_runtime.artifact.tasks import INPUTS
from albert_runtime.batch.packed import ModelLimits, PackedBatch
from albert_runtime.text import stream
from albert_runtime.text.registry import METHODS
from albert_runtime.text.task_method import TextModel
from albert_runtime.text.tokenizer import TextEncoder

LIMITS = ModelLimits(vocab_size=50, type_vocab_size=2, max_position_embeddings=16)


def setting(
    tokenizer: Path,
    task: str,
    run: Callable[..., Any],
    labels: Sequence[str] = (),
    limits: ModelLimits = LIMITS,
) -> TextModel:
    """A text model whose ``run(batch, outputs, positions)``, on padded arrays, the test gives."""
    encoder = TextEncoder(
        tokenizer.read_bytes(), limits.max_position_embeddings, keep_first=task == "question-answering"
    )
    outputs = next(method for method in METHODS.values() if task in method.tasks)
    names = getattr(outputs, "outputs", ("last_hidden_state", "pooled_output"))

    def run_packed(packed: PackedBatch, outputs: Sequence[str], score_tokens: Any) -> Any:
        arrays = packed.to_padded()
        if packed.choices is not None:
            arrays = tuple(array.reshape(-1, packed.choices, array.shape[1]) for array in arrays)
        positions = None
        if score_tokens is not None:
            inside = (
                (score_tokens >= first) & (score_tokens < last)
                for first, last in itertools.pairwise(packed.row_starts)
            )
            positions = [packed.positions[score_tokens[row]].tolist() for row in inside]
        return run(dict(zip(INPUTS, arrays, strict=True)), outputs, positions=positions)

    return TextModel("scripted", task, tuple(labels), tuple(names), 4, limits, encoder, run_packed)


def by_token(table: dict[int, Sequence[float]], width: int) -> Callable[..., dict[str, np.ndarray]]:
    """``logits`` [B, T, width] looked up by token id; unknown ids have the first column."""
    default = np.eye(1, width)[0] * 5

    def run(batch: dict[str, np.ndarray], outputs: Sequence[str], positions: Any = None) -> Any:
        ids = batch["input_ids"]
        values = np.array([[table.get(int(token), default) for token in row] for row in ids], np.float32)
        return {"logits": values}

    return run


def answer_one(made: TextModel, name: str, item: object, **options: Any) -> Any:
    """The answer to one item."""
    return next(stream.stream(made, name, [item], options))
