"""The scheduler: one thread that takes requests from the queue and runs them in batches.

A batch takes what is waiting, up to a number of tokens. While it runs, new requests gather for the next one,
so an idle engine never makes a request wait. A row's result does not depend on the rest of its batch, so
callers cannot tell that their requests were joined.
"""

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from ..backends.base import Outputs
from ..errors import BackendError, Closed, DeadlineExceeded
from .queue import RequestQueue
from .requests import Part, Request, RunBatch, run_parts

_log = logging.getLogger("albert_runtime")

# Both measured with albert_bench.load.policies. A few dozen tokens fill the engine's tiles: larger batches
# gain little and delay short requests.
DEFAULT_TOKENS = 128
PATIENCE = 4.0

_schedulers: "weakref.WeakSet[Scheduler]" = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class BatchStats:
    """Measurements of one batch, for ``Scheduler.observers``.

    Attributes:
        rows: Sequences in the batch.
        tokens: Tokens in the batch, without padding.
        padded_tokens: ``rows`` times the longest row.
        padded: Whether the backend computed ``padded_tokens`` rather than ``tokens``.
        waited: Seconds in the queue, for each request whose first part was in the batch.
        seconds: How long the batch took to run.
        requests: Requests with rows in the batch.
    """

    rows: int
    tokens: int
    padded_tokens: int
    padded: bool
    waited: tuple[float, ...]
    seconds: float
    requests: int


class Scheduler:
    """A queue in front of a backend's ``run``. Any number of threads may submit.

    A forked child starts with an empty queue; there, the futures of its parent's requests fail.

    Attributes:
        run: The function that runs a batch.
        observers: Functions called with the BatchStats of every batch, on the scheduler's thread.
    """

    def __init__(
        self,
        run: RunBatch,
        *,
        max_batch_tokens: int,
        max_queue: int,
        max_queue_delay: float,
        padded: bool,
        is_per_token: Callable[[str], bool] | None,
        patience: float = PATIENCE,
    ) -> None:
        """Create a scheduler; its thread starts with the first request.

        Args:
            run: Runs a batch; see Backend.run.
            max_batch_tokens: Tokens in a batch, unless one row alone is longer. Longer requests run in parts.
            max_queue: How many requests may be unanswered.
            max_queue_delay: Seconds that a batch which is not full waits for more requests.
            padded: Whether ``run`` pads, so that a batch costs its rows times its longest row.
            is_per_token: Tells outputs [B, T, ...] from those with one value a row. Where this is not known
                (None), requests are not joined.
            patience: See scheduler/queue.py.
        """
        self.run = run
        self.observers: list[Callable[[BatchStats], None]] = []
        self._queue_options = (max_queue, max_batch_tokens, patience)
        self._padded, self._delay, self._is_per_token = padded, max_queue_delay, is_per_token
        self._reset()
        _schedulers.add(self)

    def _reset(self) -> None:
        self._condition = threading.Condition()
        self._queue = RequestQueue(*self._queue_options, padded=self._padded)
        self._pending: set[Future[Outputs]] = set()
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def unanswered(self) -> int:
        """Number of requests that wait or run."""
        return self._queue.unanswered

    @property
    def max_queue(self) -> int:
        """How many requests may be unanswered."""
        return self._queue.max_requests

    def submit(self, request: Request) -> "Future[Outputs]":
        """Queue a request.

        Returns:
            A future of the outputs. It fails with DeadlineExceeded, or with what ``run`` raised. It can be
            cancelled until it is answered; parts of the request that have not started then cost nothing.

        Raises:
            Overloaded: The queue is full.
            Closed: ``close`` was called.
        """
        kind: object = (request.outputs, request.batch.choices, request.score_tokens is None)
        expired: list[Request] = []
        try:
            with self._condition:
                if self._closed:
                    raise Closed("this predictor is closed; open another")
                if self._thread is None:
                    thread = threading.Thread(target=self._run_batches, name="albert-scheduler", daemon=True)
                    thread.start()
                    self._thread = thread
                if self._queue.unanswered >= self._queue.max_requests:
                    expired = self._queue.take_expired()
                key = self._queue.add(request, kind if self._is_per_token is not None else id(request))
                self._pending.add(request.future)
                self._condition.notify_all()
        finally:
            _fail_expired(expired)
        # By key: a reference to the request would form a cycle with its future.
        request.future.add_done_callback(partial(self._settled, key))
        return request.future

    def close(self, *, cancel: bool = False, wait: bool = True) -> None:
        """Refuse new requests; return when the accepted ones are answered, or dropped if ``cancel``.

        Without ``wait``, return at once: the accepted ones will be answered.
        """
        with self._condition:
            self._closed = True
            dropped = self._queue.requests() if cancel else []
            self._condition.notify_all()
        for request in dropped:
            request.future.cancel()
        if wait and self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _settled(self, key: int, future: "Future[Outputs]") -> None:
        self._pending.discard(future)
        if future.cancelled():
            future.set_running_or_notify_cancel()  # for concurrent.futures.wait and as_completed
            with self._condition:
                self._queue.discard(key)

    def _run_batches(self) -> None:
        while (parts := self._wait_for_batch()) is not None:
            if parts:
                self._run_batch(parts)

    def _wait_for_batch(self) -> list[Part] | None:
        """The parts of the next batch, once there are any; None when closed and empty."""
        with self._condition:
            while not self._queue.has_parts:
                if self._closed:
                    return None
                self._condition.wait()
            while self._delay and not (self._closed or self._queue.can_fill_batch()):
                due = min((one.arrived for one in self._queue.requests()), default=0.0) + self._delay
                if (left := due - time.monotonic()) <= 0:
                    break
                self._condition.wait(left)
            parts, expired = self._queue.take_batch()
        _fail_expired(expired)
        return parts

    def _run_batch(self, parts: Sequence[Part]) -> None:
        started, failure = time.monotonic(), None
        try:
            run_parts(self.run, parts, self._is_per_token or (lambda name: False))
        except Exception as error:
            if len(parts) > 1:
                # Run them one by one, so that only the request at fault fails.
                for part in parts:
                    self._run_batch([part])
                return
            failure = error
        else:
            self._notify_observers(parts, started)
        with self._condition:
            self._queue.observe(sum(part.tokens for part in parts), time.monotonic() - started)
            if failure is not None:
                self._queue.discard(parts[0].request.key)
            answered = [part.request for part in parts if self._queue.finish_part(part)]
        if failure is not None:
            parts[0].request.fail(failure)
        for request in answered:
            request.succeed()

    def _notify_observers(self, parts: Sequence[Part], started: float) -> None:
        rows = sum(part.rows for part in parts)
        stats = BatchStats(
            rows,
            sum(part.tokens for part in parts),
            rows * max(part.width for part in parts),
            self._padded,
            tuple(started - part.request.arrived for part in parts if part.start == 0),
            time.monotonic() - started,
            len({part.request.key for part in parts}),
        )
        for observer in self.observers:
            try:
                observer(stats)
            except Exception:
                _log.exception("an observer of batches failed")  # the requests are answered all the same


def _fail_expired(expired: Sequence[Request]) -> None:
    # Never under the lock: this runs callers' callbacks.
    for request in expired:
        waited = time.monotonic() - request.arrived
        request.fail(DeadlineExceeded(f"its time was up after {waited:.3f} s in the queue"))


def _reset_after_fork() -> None:
    # A forked child has neither the parent's thread nor the callers that wait for its requests.
    for scheduler in _schedulers:
        pending = scheduler._pending
        scheduler._reset()
        for future in pending:
            # Begun anew: without its lock, which a thread of the parent may hold, and without callbacks,
            # which would act for the parent.
            Future.__init__(future)
            future.set_exception(BackendError("the request is the parent's; submit it again after a fork"))


def _drop_at_exit() -> None:
    # The threads must not be in the engine when it goes.
    for scheduler in list(_schedulers):
        scheduler.close(cancel=True)


os.register_at_fork(after_in_child=_reset_after_fork)
atexit.register(_drop_at_exit)
