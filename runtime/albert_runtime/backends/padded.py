"""Backends that take padded arrays: a packed batch is cut into passes, padded, run and put together again."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact.tasks import INPUTS, MASKED_SPAN_LOGIT, PREDICTION_SCORES, SPAN_LOGITS
from ..batch.packed import Int32, Int64, PackedBatch
from ..errors import BackendError
from .base import Outputs, OwnProcess

# Limits the memory of a pass whatever the batch: at 512 columns the attention scores of ALBERT-xxlarge take
# 0.5 GB.
DEFAULT_TOKENS_PER_PASS = 4096
# Elements of prediction_scores in a pass: 256 MiB, however large the vocabulary.
_MAX_SCORES = 2**26


class PaddedBackend(ABC):
    """A backend that takes padded int64 arrays. It runs a batch in passes, each as wide as its longest row.

    A subclass may round up the width of a pass and limit its rows.

    Attributes:
        process: The process whose library has loaded the model.
        vocab_size: Columns of prediction_scores, where known.
        tokens_per_pass: Limit on rows times columns of a pass, padding included.
        max_rows: Limit on the rows (for multiple choice: questions) of a pass.
    """

    name: str
    outputs: tuple[str, ...]
    process: OwnProcess
    vocab_size: int | None = None
    tokens_per_pass = DEFAULT_TOKENS_PER_PASS
    max_rows: int | None = None

    def fit(self, width: int, choices: int | None) -> None:  # noqa: B027  (most take all)
        """BackendError if rows of ``width`` columns, or questions of ``choices`` choices, are too large."""

    def padded_width(self, width: int) -> int:
        """The columns of a pass whose longest row has ``width`` tokens."""
        return width

    @abstractmethod
    def forward(self, inputs: dict[str, Int64], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """Run one padded pass; the named outputs in new arrays. Any number of threads may call it."""

    @abstractmethod
    def info(self) -> dict[str, object]:
        """See Backend.info."""

    def run(self, batch: PackedBatch, outputs: Sequence[str], score_tokens: Int32 | None = None) -> Outputs:
        """See Backend.run."""
        collector = OutputCollector(batch, score_tokens)
        for start, stop in self.passes(batch, outputs, batch.width):
            part = batch.rows(start, stop)
            width = self.padded_width(part.width)
            arrays = part.to_padded(width)
            if batch.choices is not None:
                arrays = tuple(values.reshape(-1, batch.choices, width) for values in arrays)  # type: ignore[assignment]
            inputs = dict(zip(INPUTS, arrays, strict=True))
            collector.add(self.forward(inputs, outputs), outputs, part, start, width)
        return collector.outputs

    def passes(self, batch: PackedBatch, outputs: Sequence[str], width: int) -> Iterator[tuple[int, int]]:
        """(start, stop) rows of each pass of at most ``width`` columns; a question's choices stay together.

        BackendError if the batch does not fit this backend, or this is a forked child.
        """
        self.process.check()
        self.fit(width, batch.choices)
        tokens = self.tokens_per_pass
        if PREDICTION_SCORES in outputs and self.vocab_size is not None:
            tokens = min(tokens, _MAX_SCORES // self.vocab_size)
        choices = batch.choices or 1
        rows = max(1, tokens // (self.padded_width(width) * choices))
        step = min(rows, self.max_rows or rows) * choices
        for start in range(0, batch.shape[0], step):
            yield start, min(start + step, batch.shape[0])


class OutputCollector:
    """Collects the outputs of all passes into arrays for the whole batch."""

    def __init__(self, batch: PackedBatch, score_tokens: Int32 | None) -> None:
        self.outputs: Outputs = {}
        self._batch = batch
        self._score_tokens = score_tokens

    def add(
        self,
        answers: Sequence[NDArray[Any]],
        outputs: Sequence[str],
        part: PackedBatch,
        start: int,
        width: int,
    ) -> None:
        """Add the outputs of a pass that is ``width`` columns wide and starts at row ``start``."""
        for name, values in zip(outputs, answers, strict=True):
            self._add(name, values, part, start, width)

    def _add(self, name: str, values: NDArray[Any], part: PackedBatch, start: int, width: int) -> None:
        choices = self._batch.choices or 1
        first, count = start // choices, part.shape[0] // choices
        if values.shape[:1] != (count,):
            raise BackendError(
                f"output {name} has shape {values.shape} for {count} rows; it is not one result a row"
            )
        span = name in SPAN_LOGITS
        per_token = values.shape[1:2] == (width,) and (values.ndim > 2 or span)
        if name == PREDICTION_SCORES and self._score_tokens is not None:
            self._add_scores(values.reshape(count * width, -1), part, start, width)
            return
        if name not in self.outputs:
            inner = (self._batch.shape[1], *values.shape[2:]) if per_token else values.shape[1:]
            rows = self._batch.shape[0] // choices
            self.outputs[name] = np.full((rows, *inner), MASKED_SPAN_LOGIT if span else 0, np.float32)
        target = self.outputs[name]
        if per_token:
            masked = np.ones(count * width, np.bool_)
            masked[part.padded_indices(width)[part.unmasked()]] = False
            values[masked.reshape(count, width)] = MASKED_SPAN_LOGIT if span else 0
            # A pass may be wider than the batch: rounded up, with nothing but padding there.
            columns = min(width, target.shape[1])
            target[first : first + count, :columns] = values[:, :columns]
        elif values.shape[1:] == target.shape[1:]:
            target[first : first + count] = values
        else:
            # Without a manifest nothing tells such an output from one a row.
            raise BackendError(
                f"output {name} has shape {values.shape}, as wide as its rows; run them one by one, "
                "or export the model again"
            )

    def _add_scores(self, values: NDArray[Any], part: PackedBatch, start: int, width: int) -> None:
        wanted = self._score_tokens
        assert wanted is not None
        if PREDICTION_SCORES not in self.outputs:
            self.outputs[PREDICTION_SCORES] = np.empty((len(wanted), values.shape[1]), np.float32)
        token = wanted - self._batch.row_starts[start]
        here = np.flatnonzero((token >= 0) & (token < part.tokens))
        self.outputs[PREDICTION_SCORES][here] = values[part.padded_indices(width)[token[here]]]
