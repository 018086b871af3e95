"""What a backend is, and the work that those sharing a padded form have in common."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..artifact.manifest import INPUTS
from ..artifact.tasks import MASKED_SPAN_LOGIT
from ..batch.packed import Int32, Int64, PackedBatch
from ..errors import BackendError

Array = NDArray[np.float32]
# Name of an output -> its values, padded; see Backend.run.
Outputs = dict[str, Array]

# Bounds the memory of one run, whatever the batch: with 512 columns, attention scores of ALBERT-xxlarge take
# 0.5 GB a pass.
TOKENS_PER_PASS = 4096
# As many values may be scored at a time: 256 MiB, however large the vocabulary.
SCORES_PER_PASS = 2**26
SCORES, SPANS = "prediction_scores", ("start_logits", "end_logits")


class Backend(Protocol):
    """Runs one model. ``run`` may be called from any number of threads."""

    name: str
    outputs: tuple[str, ...]

    def run(
        self, batch: PackedBatch, outputs: Sequence[str], score_tokens: Int32 | None = None
    ) -> dict[str, Array]:
        """The named outputs, padded: per token [B, T, ...], per row [B, ...], multiple choice [B / C, C].

        Masked positions hold 0, in start_logits and end_logits -10000. With ``score_tokens``, packed tokens
        int32 [P], prediction_scores is [P, V] in their order.
        """
        ...

    def info(self) -> dict[str, object]:
        """What this backend is made of, ready for JSON."""
        ...


@dataclass(frozen=True, slots=True)
class Options:
    """How a backend is to run.

    ``device``: cpu, gpu, or auto for either. ``max_batch``, ``max_length``: rows and columns a TensorRT
    engine is built for; None = 32 and the model's positions. ``may_build``: whether it is built where it is
    not there.
    """

    num_threads: int
    precision: str
    device: str = "auto"
    max_batch: int | None = None
    max_length: int | None = None
    may_build: bool = False


class PaddedBackend(ABC):
    """A backend that takes padded int64 arrays: passes of bounded size, as wide as their longest row.

    A subclass may round the width of a pass up, and bound its rows.
    """

    name: str
    outputs: tuple[str, ...]
    vocab_size: int | None = None  # where known
    tokens_per_pass = TOKENS_PER_PASS
    max_rows: int | None = None

    def fit(self, width: int, choices: int | None) -> None:  # noqa: B027  (most take all)
        """BackendError if this backend takes no rows of so many columns, or questions of so many choices."""

    def padded_width(self, width: int) -> int:
        """The columns given to a pass whose longest row has ``width``."""
        return width

    @abstractmethod
    def forward(self, inputs: dict[str, Int64], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """The named outputs for one padded pass, in new arrays; any number of threads may call it."""

    @abstractmethod
    def info(self) -> dict[str, object]:
        """See Backend.info."""

    def run(
        self, batch: PackedBatch, outputs: Sequence[str], score_tokens: Int32 | None = None
    ) -> dict[str, Array]:
        """See Backend.run."""
        results = Results(batch, score_tokens)
        for start, stop in self.passes(batch, outputs, batch.width):
            part = batch.rows(start, stop)
            width = self.padded_width(part.width)
            arrays = part.to_padded(width)
            if batch.choices is not None:
                arrays = tuple(values.reshape(-1, batch.choices, width) for values in arrays)  # type: ignore[assignment]
            inputs = dict(zip(INPUTS, arrays, strict=True))
            results.add(self.forward(inputs, outputs), outputs, part, start, width)
        return results.values

    def passes(self, batch: PackedBatch, outputs: Sequence[str], width: int) -> Iterator[tuple[int, int]]:
        """Rows start to stop of each pass of at most ``width`` columns, all choices of a question together.

        BackendError for a batch that does not fit.
        """
        self.fit(width, batch.choices)
        tokens = self.tokens_per_pass
        if SCORES in outputs and self.vocab_size is not None:
            tokens = min(tokens, SCORES_PER_PASS // self.vocab_size)
        choices = batch.choices or 1
        rows = max(1, tokens // (self.padded_width(width) * choices))
        step = min(rows, self.max_rows or rows) * choices
        for start in range(0, batch.shape[0], step):
            yield start, min(start + step, batch.shape[0])


class Results:
    """The outputs of all passes, each put where its rows belong."""

    def __init__(self, batch: PackedBatch, score_tokens: Int32 | None) -> None:
        self.values: dict[str, Array] = {}
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
        """Take the named outputs of the pass, ``width`` columns wide, that began at row ``start``."""
        for name, values in zip(outputs, answers, strict=True):
            self._add(name, values, part, start, width)

    def _add(self, name: str, values: NDArray[Any], part: PackedBatch, start: int, width: int) -> None:
        choices = self._batch.choices or 1
        first, count = start // choices, part.shape[0] // choices
        if values.shape[:1] != (count,):
            raise BackendError(
                f"output {name} has shape {values.shape} for {count} rows; it is not one result a row"
            )
        span = name in SPANS
        per_token = values.shape[1:2] == (width,) and (values.ndim > 2 or span)
        if name == SCORES and self._score_tokens is not None:
            self._add_scores(values.reshape(count * width, -1), part, start, width)
            return
        if name not in self.values:
            inner = (self._batch.shape[1], *values.shape[2:]) if per_token else values.shape[1:]
            rows = self._batch.shape[0] // choices
            self.values[name] = np.full((rows, *inner), MASKED_SPAN_LOGIT if span else 0, np.float32)
        target = self.values[name]
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
        if SCORES not in self.values:
            self.values[SCORES] = np.empty((len(wanted), values.shape[1]), np.float32)
        token = wanted - self._batch.row_starts[start]
        here = np.flatnonzero((token >= 0) & (token < part.tokens))
        self.values[SCORES][here] = values[part.padded_indices(width)[token[here]]]


def import_package(name: str, extra: str) -> ModuleType:
    """Import an optional package; BackendError says how to install it or why it does not load."""
    install = f"pip install 'albert-runtime[{extra}]'"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        raise BackendError(f"the package {missing} is not installed; {install}") from None
    except Exception as error:
        raise BackendError(f"the package {name} does not load ({one_line(error)}); {install}") from None


def check_inputs(names: Sequence[str], file: str) -> None:
    """Refuse a program that would ignore a mask or take one input for another."""
    if sorted(names) != sorted(INPUTS):
        raise BackendError(
            f"{file} has the inputs {', '.join(names)}, not {', '.join(INPUTS)}; use albert-export"
        )


def one_line(error: BaseException, limit: int = 300) -> str:
    """What went wrong in one line: frameworks put it before or after pages of stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Error:" in line] or lines or [type(error).__name__]
    return telling[0] if len(telling[0]) <= limit else f"{telling[0][: limit - 3]}..."
