"""The thread that takes requests from the queue and runs them.

A pass takes what waits, up to a budget of tokens; while it runs the next requests gather, so that nobody
waits for an idle engine. A sequence's result does not depend on what runs beside it: joining is invisible.
"""

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from ..errors import Closed, DeadlineExceeded
from .queue import Waiting
from .requests import Part, Request, Results, Run, run_joined

_log = logging.getLogger("albert_runtime")

# Tiles are full with a few dozen tokens: longer passes gain little and keep short requests waiting. Both from
# albert_bench.load.policies.
DEFAULT_TOKENS = 128
PATIENCE = 4.0

_batchers: "weakref.WeakSet[Batcher]" = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass through the model was, for whoever keeps statistics.

    ``padded_tokens``: its rows times the longest. ``padded``: whether so many were computed. ``waited``:
    seconds in the queue of each request that began with it.
    """

    rows: int
    tokens: int
    padded_tokens: int
    padded: bool
    waited: tuple[float, ...]
    seconds: float


class Batcher:
    """A queue before a backend's ``run``. Any number of threads may submit.

    ``max_batch_tokens`` bounds a pass, unless one row alone is longer; longer requests run in parts.
    ``max_queue`` requests may be unanswered. A pass that is not full waits ``max_queue_delay`` seconds for
    more. ``patience`` and ``padded``: see Waiting. ``is_per_token`` tells outputs [B, T, ...] from those with
    one value a row; where that is not known (None) requests run one by one. A forked child begins with an
    empty queue.
    """

    def __init__(
        self,
        run: Run,
        *,
        max_batch_tokens: int,
        max_queue: int,
        max_queue_delay: float,
        padded: bool,
        is_per_token: Callable[[str], bool] | None,
        patience: float = PATIENCE,
    ) -> None:
        self.run = run
        self.observers: list[Callable[[Pass], None]] = []
        self._limits = (max_queue, max_batch_tokens, patience)
        self._padded, self._delay, self._is_per_token = padded, max_queue_delay, is_per_token
        self._begin()
        _batchers.add(self)

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._waiting = Waiting(*self._limits, padded=self._padded)
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def unanswered(self) -> int:
        """Requests that wait or run."""
        return self._waiting.unanswered

    def submit(self, request: Request) -> "Future[Results]":
        """Queue a request; its future brings the results, DeadlineExceeded, or what ``run`` raised.

        Overloaded at once if the queue is full, Closed after ``close``. It can be cancelled until it is
        answered; its parts that have not begun then cost nothing.
        """
        kind: object = (request.outputs, request.batch.choices, request.score_tokens is None)
        expired: list[Request] = []
        try:
            with self._changed:
                if self._closed:
                    raise Closed("this predictor is closed; open another")
                if self._thread is None:
                    thread = threading.Thread(target=self._serve, name="albert-batcher", daemon=True)
                    thread.start()
                    self._thread = thread
                if self._waiting.unanswered >= self._waiting.max_requests:
                    expired = self._waiting.take_expired()
                key = self._waiting.add(request, kind if self._is_per_token is not None else id(request))
                self._changed.notify_all()
        finally:
            _expire(expired)
        # By its key: a reference to the request would make a ring of it and its future.
        request.future.add_done_callback(partial(self._forget_cancelled, key))
        return request.future

    def close(self, *, cancel: bool = False) -> None:
        """Accept no more, and return when all that was accepted is answered, or with ``cancel`` given up."""
        with self._changed:
            self._closed = True
            given_up = self._waiting.requests() if cancel else []
            self._changed.notify_all()
        for request in given_up:
            request.future.cancel()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _forget_cancelled(self, key: int, future: "Future[Results]") -> None:
        if future.cancelled():
            future.set_running_or_notify_cancel()  # for concurrent.futures.wait and as_completed
            with self._changed:
                self._waiting.forget(key)

    def _serve(self) -> None:
        while (parts := self._next()) is not None:
            if parts:
                self._run(parts)

    def _next(self) -> list[Part] | None:
        """The parts of the next pass, as soon as there are any; None when closed and empty."""
        with self._changed:
            while not self._waiting.has_parts:
                if self._closed:
                    return None
                self._changed.wait()
            while self._delay and not (self._closed or self._waiting.full()):
                due = min((one.arrived for one in self._waiting.requests()), default=0.0) + self._delay
                if (left := due - time.monotonic()) <= 0:
                    break
                self._changed.wait(left)
            parts, expired = self._waiting.take()
        _expire(expired)
        return parts

    def _run(self, parts: Sequence[Part]) -> None:
        began, failure = time.monotonic(), None
        try:
            run_joined(self.run, parts, self._is_per_token or (lambda name: False))
        except Exception as error:
            if len(parts) > 1:
                # One of them is to blame; the others shall not pay for it.
                for part in parts:
                    self._run([part])
                return
            failure = error
        else:
            self._tell(parts, began)
        with self._changed:
            self._waiting.ran(sum(part.tokens for part in parts), time.monotonic() - began)
            if failure is not None:
                self._waiting.forget(parts[0].request.key)
            answered = [part.request for part in parts if self._waiting.over(part)]
        if failure is not None:
            parts[0].request.fail(failure)
        for request in answered:
            request.succeed()

    def _tell(self, parts: Sequence[Part], began: float) -> None:
        rows = sum(part.rows for part in parts)
        record = Pass(
            rows,
            sum(part.tokens for part in parts),
            rows * max(part.width for part in parts),
            self._padded,
            tuple(began - part.request.arrived for part in parts if part.start == 0),
            time.monotonic() - began,
        )
        for observer in self.observers:
            try:
                observer(record)
            except Exception:
                _log.exception("an observer of passes failed")  # whoever waits shall not pay for it


def _expire(expired: Sequence[Request]) -> None:
    # Never under the lock: callers' callbacks run here.
    for request in expired:
        waited = time.monotonic() - request.arrived
        request.fail(DeadlineExceeded(f"its time was up after {waited:.3f} s in the queue"))


def _begin_anew() -> None:
    # The thread of a forked child's parent is not in it, nor is whoever waits for its requests.
    for batcher in _batchers:
        batcher._begin()


os.register_at_fork(after_in_child=_begin_anew)
