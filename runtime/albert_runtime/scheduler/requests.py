"""A request, the parts in which it runs, and how the parts of several requests run as one batch."""

import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..backends.base import SCORES
from ..batch.packed import Int32, PackedBatch, join

Results = dict[str, NDArray[np.float32]]
Run = Callable[[PackedBatch, Sequence[str], Int32 | None], Results]


@dataclass(slots=True, eq=False)
class Request:
    """A batch that waits for its results. ``deadline``: time.monotonic() after which nobody wants them.

    ``score_tokens``: see Backend.run.
    """

    batch: PackedBatch
    outputs: tuple[str, ...]
    score_tokens: Int32 | None = None
    deadline: float | None = None
    future: "Future[Results]" = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)
    results: Results = field(default_factory=dict)
    parts_left: int = 0
    key: int = -1

    def parts(self, max_tokens: int) -> list["Part"]:
        """The request in parts of so many tokens; one row, all choices of one question, is never parted."""
        batch, step = self.batch, self.batch.choices or 1
        rows = batch.shape[0]
        if batch.tokens <= max_tokens or self.score_tokens is not None:
            return [Part(self, 0, rows)]
        parts, start = [], 0
        while start < rows:
            fitting = (
                int(np.searchsorted(batch.row_starts, batch.row_starts[start] + max_tokens, "right")) - 1
            )
            stop = min(rows, start + max(step, (fitting - start) // step * step))
            parts.append(Part(self, start, stop))
            start = stop
        return parts

    def expired(self, now: float) -> bool:
        """Whether its time is up."""
        return self.deadline is not None and now > self.deadline

    def succeed(self) -> None:
        """Hand the results to whoever waits, if anybody does."""
        with contextlib.suppress(InvalidStateError):  # cancelled just now
            self.future.set_result(self.results)

    def fail(self, error: Exception) -> None:
        """Hand the error to whoever waits, if anybody does."""
        with contextlib.suppress(InvalidStateError):  # cancelled just now, or failed in another part
            self.future.set_exception(error)


@dataclass(slots=True, eq=False)
class Part:
    """Rows start to stop of a request, which run in one pass."""

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
        """How many."""
        return self.stop - self.start

    @property
    def batch(self) -> PackedBatch:
        """Its rows."""
        whole = self.request.batch
        return whole if self.rows == whole.shape[0] else whole.rows(self.start, self.stop)


def run_joined(run: Run, parts: Sequence[Part], is_per_token: Callable[[str], bool]) -> None:
    """Run the parts as one batch, and put what comes out into the results of their requests."""
    first = parts[0].request
    batches = [part.batch for part in parts]
    if len(parts) == 1:
        results = run(batches[0], first.outputs, first.score_tokens)
        if parts[0].rows == first.batch.shape[0]:
            first.results = results
            return
    else:
        results = run(join(batches), first.outputs, _joined_tokens([part.request for part in parts]))
    row = score = 0
    for part in parts:
        request, choices = part.request, part.request.batch.choices or 1
        rows = part.rows // choices
        scores = 0 if request.score_tokens is None else len(request.score_tokens)
        for name, values in results.items():
            if name == SCORES and request.score_tokens is not None:
                request.results[name] = values[score : score + scores].copy()
            else:
                _place(request, name, values[row : row + rows], part.start // choices, is_per_token(name))
        row, score = row + rows, score + scores


def _joined_tokens(requests: Sequence[Request]) -> Int32 | None:
    """The tokens to score, by their place in the joined batch."""
    wanted, first = [], 0
    for request in requests:
        if request.score_tokens is None:
            return None
        wanted.append(request.score_tokens + np.int32(first))
        first += request.batch.tokens
    return np.concatenate(wanted)


def _place(request: Request, name: str, values: NDArray[np.float32], first: int, per_token: bool) -> None:
    """Put some rows of an output where they belong, those per token cut to the request's own width."""
    rows, width = request.batch.shape
    if name not in request.results:
        inner = (width, *values.shape[2:]) if per_token else values.shape[1:]
        request.results[name] = np.empty((rows // (request.batch.choices or 1), *inner), np.float32)
    request.results[name][first : first + len(values)] = values[:, :width] if per_token else values
