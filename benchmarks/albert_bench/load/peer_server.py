"""The same protocol and front end before ONNX Runtime, as people write such servers.

``--rows 1``: a request, a run. ``--rows N``: dynamic batching, up to N requests in the order they came, of
which the first waits 5 ms for others, padded to the longest.
"""

import argparse
import queue
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from importlib import metadata
from typing import Any

import uvloop

from albert_runtime import AlbertError, Overloaded
from albert_runtime.backends.base import Outputs
from albert_runtime.scheduler import BatchStats, Part, Request, RunBatch, run_parts
from albert_runtime.serve import logs, server
from albert_runtime.serve.limits import ServerLimits
from albert_runtime.serve.models import Models
from albert_runtime.serve.service import Service

_DELAY = 0.005  # seconds, of which Triton's examples have 0 to 5
_MAX_WAITING = 1024


class PaddedBatcher:
    """In place of albert_runtime's Scheduler: what is asked of it by a Predictor and a server."""

    def __init__(self, run: RunBatch, *, is_per_token: Any, rows: int, **unused: Any) -> None:
        self._run_batch, self._is_per_token, self._rows = run, is_per_token, rows
        self.observers: list[Any] = []
        self.unanswered = 0
        self._waiting: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> "Future[Outputs]":
        """Queue a request."""
        with self._lock:
            if self.unanswered >= _MAX_WAITING:
                raise Overloaded("too many requests wait")
            self.unanswered += 1
        self._waiting.put(request)
        return request.future

    def close(self, *, cancel: bool = False, wait: bool = True) -> None:
        """Answer what waits, and end."""
        self._waiting.put(None)
        if wait:
            self._thread.join()

    def _serve(self) -> None:
        while (first := self._waiting.get()) is not None:
            requests, until = [first], time.monotonic() + _DELAY
            while len(requests) < self._rows:
                try:
                    more = self._waiting.get(timeout=max(0.0, until - time.monotonic()))
                except queue.Empty:
                    break
                if more is None:
                    self._waiting.put(None)
                    break
                requests.append(more)
            self._run([request for request in requests if request.future.set_running_or_notify_cancel()])
            with self._lock:
                self.unanswered -= len(requests)

    def _run(self, requests: Sequence[Request]) -> None:
        if not requests:
            return
        parts = [Part(request, 0, request.batch.shape[0]) for request in requests]
        began = time.monotonic()
        run_parts(self._run_batch, parts, self._is_per_token)
        seconds = time.monotonic() - began
        rows, tokens = sum(part.rows for part in parts), sum(part.tokens for part in parts)
        padded = rows * max(part.width for part in parts)
        for observer in self.observers:
            observer(
                BatchStats(
                    rows,
                    tokens,
                    padded,
                    True,
                    tuple(began - one.arrived for one in requests),
                    seconds,
                    len(requests),
                )
            )
        for request in requests:
            request.future.set_result(request.results)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m albert_bench.load.peer_server", description=__doc__)
    parser.add_argument("artifact")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--no-grpc", action="store_true", required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_intermixed_args(arguments)
    logs.configure("info")
    limits = ServerLimits()
    models = Models(limits)
    try:
        models.add(
            options.artifact,
            backend="onnxruntime",
            num_threads=options.threads,
            scheduler=partial(PaddedBatcher, rows=options.rows),
        )
        address = server.Address("127.0.0.1", options.port, None)

        async def run() -> bool:
            return await server.serve(Service(models, limits), address, metadata.version("albert-runtime"))

        return 0 if uvloop.run(run()) else 1
    except AlbertError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
