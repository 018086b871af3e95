"""What /metrics shows, in Prometheus' terms. Labels are bounded: loaded models, APIs, outcomes."""

import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from ..scheduler.scheduler import BatchStats
from .errors import Outcome
from .models import Model

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_RECENT_SECONDS = 60.0


class Metrics:
    """The counters of one server. Any thread may write."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        model = ("model",)
        self._requests = Counter(
            "albert_requests", "Requests by their end", ("api", "model", "outcome"), registry=self._registry
        )
        self._seconds = Histogram(
            "albert_request_seconds",
            "From a request's arrival to its answer sent, of those answered with 200",
            ("api", "model"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._queue_seconds = Histogram(
            "albert_queue_seconds", "From queued to begun", model, buckets=_SECONDS, registry=self._registry
        )
        self._compute_seconds = Histogram(
            "albert_compute_seconds", "Of a pass", model, buckets=_SECONDS, registry=self._registry
        )
        self._batch_tokens = Histogram(
            "albert_batch_tokens", "Tokens of a pass", model, buckets=_TOKENS, registry=self._registry
        )
        self._batch_rows = Counter("albert_rows", "Sequences computed", model, registry=self._registry)
        self._padding = Counter(
            "albert_padding_avoided_tokens",
            "What padding every pass to its longest sequence would have added",
            model,
            registry=self._registry,
        )
        self._depth = Gauge("albert_queue_depth", "Requests that wait or run", model, registry=self._registry)
        self._in_flight = Gauge(
            "albert_in_flight_requests", "Requests in the server", registry=self._registry
        )
        self._recent: dict[str, Recent] = {}

    def watch(self, model: Model) -> None:
        """Count the passes of a model."""
        label = model.label
        scheduler = model.predictor.scheduler
        self._recent[label] = Recent()
        self._depth.labels(label).set_function(lambda: scheduler.unanswered)
        children = [
            metric.labels(label)
            for metric in (self._queue_seconds, self._compute_seconds, self._batch_tokens)
        ]
        rows, padding = self._batch_rows.labels(label), self._padding.labels(label)

        def count(done: BatchStats) -> None:
            queue, compute, tokens = children
            for waited in done.waited:
                queue.observe(waited)
            compute.observe(done.seconds)
            tokens.observe(done.tokens)
            rows.inc(done.rows)
            padding.inc(0 if done.padded else done.padded_tokens - done.tokens)

        scheduler.observers.append(count)

    def in_flight(self, count: int) -> None:
        """So many requests are in the server now."""
        self._in_flight.set(count)

    def ended(self, api: str, model: Model | None, outcome: Outcome, seconds: float) -> None:
        """A request is over. ``model`` None: it named none that is here."""
        label = "" if model is None else model.label
        self._requests.labels(api, label, outcome.name).inc()
        if outcome.status == 200:
            self._seconds.labels(api, label).observe(seconds)
            if model is not None:
                self._recent[label].add(seconds)

    def recent_of(self, models: Iterable[Model]) -> list[tuple[Model, dict[str, Any]]]:
        """Each model with its last minute."""
        return [(model, self._recent[model.label].summary()) for model in models]

    def text(self) -> bytes:
        """Prometheus' text format."""
        return bytes(generate_latest(self._registry))


class Recent:
    """Seconds that the last minute's answers took, for people to look at."""

    def __init__(self) -> None:
        self._answers: deque[tuple[float, float]] = deque(maxlen=100_000)

    def add(self, seconds: float) -> None:
        """One more answer."""
        self._answers.append((time.monotonic(), seconds))

    def summary(self) -> dict[str, Any]:
        """Answers a second, and median and 99th percentile in milliseconds; None without answers."""
        since = time.monotonic() - _RECENT_SECONDS
        while self._answers and self._answers[0][0] < since:
            self._answers.popleft()
        taken = sorted(seconds for _, seconds in list(self._answers))
        return {
            "answers_per_second": round(len(taken) / _RECENT_SECONDS, 2),
            "p50_ms": _percentile(taken, 0.5),
            "p99_ms": _percentile(taken, 0.99),
        }


def _percentile(ordered: list[float], share: float) -> float | None:
    if not ordered:
        return None
    return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)
