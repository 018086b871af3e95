"""Requests, the parts they are cut into, and how parts of several requests run as one batch."""

import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..artifact.tasks import PREDICTION_SCORES
from ..backends.base import Outputs
from ..batch.packed import Int32, PackedBatch, join

# Backend.run: batch, names of the outputs, tokens to score.
RunBatch = Callable[[PackedBatch, Sequence[str], Int32 | None], Outputs]


@dataclass(slots=True, eq=False)
class Request:
    """A batch waiting for its outputs.

    ``outputs`` are names. ``score_tokens``: see Backend.run. ``deadline`` and ``arrived`` are on the clock of
    time.monotonic(). The scheduler sets the last three.
    """

    batch: PackedBatch
    outputs: tuple[str, ...]
    score_tokens: Int32 | None = None
    deadline: float | None = None
    future: "Future[Outputs]" = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)
    results: Outputs = field(default_factory=dict)
    parts_left: int = 0
    key: int = -1

    def parts(self, max_tokens: int) -> list["Part"]:
        """Cut the request into parts of ``max_tokens``, but never within a row or a question's choices."""
        batch, step = self.batch, self.batch.choices or 1
        rows = batch.shape[0]
        if batch.tokens <= max_tokens or self.score_tokens is not None:
            return [Part(self, 0, rows)]
        parts, start = [], 0
        while start < rows:
            limit = batch.row_starts[start] + max_tokens
            fitting = int(np.searchsorted(batch.row_starts, limit, "right")) - 1
            stop = min(rows, start + max(step, (fitting - start) // step * step))
            parts.append(Part(self, start, stop))
            start = stop
        return parts

    def expired(self, now: float) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and now > self.deadline

    def succeed(self) -> None:
        """Give the caller the results, unless the request was cancelled."""
        with contextlib.suppress(InvalidStateError):  # cancelled just now
            self.future.set_result(self.results)

    def fail(self, error: Exception) -> None:
        """Give the caller the error, unless the request was cancelled."""
        with contextlib.suppress(InvalidStateError):  # cancelled just now, or failed in another part
            self.future.set_exception(error)


@dataclass(slots=True, eq=False)
class Part:
    """Rows ``start`` to ``stop`` of a request, which run in one batch. ``width``: tokens of the longest."""

    request: Request
    start: int
    stop: int
    tokens: int = 0
    width: int = 0

    def __post_init__(self) -> None:
        batch = self.request.batch
        self.tokens = int(batch.row_starts[self.stop] - batch.row_starts[self.start])
        self.width = int(np.diff(batch.row_starts[self.start : self.stop + 1]).max())

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.stop - self.start

    @property
    def batch(self) -> PackedBatch:
        """The rows as a batch of their own."""
        whole = self.request.batch
        return whole if self.rows == whole.shape[0] else whole.rows(self.start, self.stop)


def run_parts(run: RunBatch, parts: Sequence[Part], is_per_token: Callable[[str], bool]) -> None:
    """Run the parts as one batch, and copy its outputs into the results of their requests."""
    first = parts[0].request
    batches = [part.batch for part in parts]
    if len(parts) == 1:
        results = run(batches[0], first.outputs, first.score_tokens)
        if parts[0].rows == first.batch.shape[0]:
            first.results = results
            return
    else:
        results = run(join(batches), first.outputs, _join_score_tokens([part.request for part in parts]))
    row = score = 0
    for part in parts:
        request, choices = part.request, part.request.batch.choices or 1
        rows = part.rows // choices
        scores = 0 if request.score_tokens is None else len(request.score_tokens)
        for name, values in results.items():
            if name == PREDICTION_SCORES and request.score_tokens is not None:
                request.results[name] = values[score : score + scores].copy()
            else:
                _place(request, name, values[row : row + rows], part.start // choices, is_per_token(name))
        row, score = row + rows, score + scores


def _join_score_tokens(requests: Sequence[Request]) -> Int32 | None:
    """The tokens to score, as indices into the joined batch."""
    wanted, first = [], 0
    for request in requests:
        if request.score_tokens is None:
            return None
        wanted.append(request.score_tokens + np.int32(first))
        first += request.batch.tokens
    return np.concatenate(wanted)


def _place(request: Request, name: str, values: NDArray[np.float32], first: int, per_token: bool) -> None:
    """Copy some rows of an output into a request's results; outputs per token get the request's width."""
    rows, width = request.batch.shape
    if name not in request.results:
        inner = (width, *values.shape[2:]) if per_token else values.shape[1:]
        request.results[name] = np.empty((rows // (request.batch.choices or 1), *inner), np.float32)
    request.results[name][first : first + len(values)] = values[:, :width] if per_token else values
