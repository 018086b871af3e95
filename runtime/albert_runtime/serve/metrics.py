"""The Prometheus metrics at /metrics. Label values are bounded: loaded models, APIs and outcomes."""

import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from ..scheduler.scheduler import BatchStats
from ..text.long_texts import LONG_TEXTS
from .errors import Outcome
from .model import Model

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TOKENS_BUCKETS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_RECENT_SECONDS = 60.0


class Metrics:
    """The metrics of one server. Any thread may update them."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "albert_requests",
            "Requests that have ended, by outcome (ok, invalid, overloaded, expired, ...).",
            ("api", "model", "outcome"),
            registry=self._registry,
        )
        self._seconds = self._histogram(
            "albert_request_seconds",
            "Seconds from a request's arrival until its answer is sent, for requests answered with 200.",
            _SECONDS_BUCKETS,
            ("api", "model"),
        )
        self._queue_seconds = self._histogram(
            "albert_queue_seconds",
            "Seconds a request waits in the model's queue before its computation begins.",
            _SECONDS_BUCKETS,
        )
        self._compute_seconds = self._histogram(
            "albert_compute_seconds", "Seconds the model takes to compute a batch.", _SECONDS_BUCKETS
        )
        self._batch_tokens = self._histogram(
            "albert_batch_tokens", "Tokens in a batch, padding not counted.", _TOKENS_BUCKETS
        )
        self._batch_rows = self._counter("albert_rows", "Sequences computed.")
        self._padding_avoided = self._counter(
            "albert_padding_avoided_tokens",
            "Padding tokens that were not computed because batches are packed rather than padded.",
        )
        self._queue_depth = Gauge(
            "albert_queue_depth",
            "Requests that are waiting for the model or being computed by it.",
            ("model",),
            registry=self._registry,
        )
        self._in_flight = Gauge(
            "albert_in_flight_requests",
            "Requests in progress, from the arrival of their headers until their answer is sent.",
            registry=self._registry,
        )
        self._loads = Counter(
            "albert_model_loads",
            "Loads of a model, at the start of the server and later, by outcome (ok, failed).",
            ("model", "outcome"),
            registry=self._registry,
        )
        self._proved = Gauge(
            "albert_proved",
            "1 if the model's answers were found to have the bits of the export (--prove), otherwise 0.",
            ("model", "precision"),
            registry=self._registry,
        )
        self._recent: dict[str, RecentLatencies] = {}
        self._precisions: dict[str, str] = {}  # of the models that are loaded
        self._observe_long_texts()

    def _observe_long_texts(self) -> None:
        waiting = Gauge(
            "albert_long_texts",
            "Requests whose texts are long and wait to be tokenized, or are being tokenized.",
            registry=self._registry,
        )
        waiting.set_function(lambda: LONG_TEXTS.waiting)
        seconds = Histogram(
            "albert_long_text_seconds",
            "Seconds that tokenizing long texts takes, in portions, without the wait for a thread.",
            buckets=_SECONDS_BUCKETS,
            registry=self._registry,
        )
        LONG_TEXTS.observers.append(seconds.observe)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], labels: tuple[str, ...] = ("model",)
    ) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self._registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, ("model",), registry=self._registry)

    def add_model(self, model: Model) -> None:
        """Observe a model's batches and its queue from now on, no longer those of the one it replaces."""
        label = model.label
        scheduler = model.predictor.scheduler
        self._recent.setdefault(label, RecentLatencies())
        self._queue_depth.labels(label).set_function(lambda: scheduler.unanswered)
        # Looked up once: a lookup by label takes a lock.
        queue_seconds, compute_seconds, batch_tokens = (
            metric.labels(label)
            for metric in (self._queue_seconds, self._compute_seconds, self._batch_tokens)
        )
        rows, padding_avoided = self._batch_rows.labels(label), self._padding_avoided.labels(label)

        def observe(batch: BatchStats) -> None:
            for waited in batch.waited:
                queue_seconds.observe(waited)
            compute_seconds.observe(batch.seconds)
            batch_tokens.observe(batch.tokens)
            rows.inc(batch.rows)
            padding_avoided.inc(0 if batch.padded else batch.padded_tokens - batch.tokens)

        scheduler.observers.append(observe)
        info = model.predictor.info()
        precision = info.get("computes", info["precision"])
        if self._precisions.get(label, precision) != precision:
            self._proved.remove(label, self._precisions[label])
        self._precisions[label] = precision
        self._proved.labels(label, precision).set(model.predictor.proved is not None)

    def remove_model(self, label: str) -> None:
        """Forget the state of a model that was unloaded; what was counted stays."""
        self._queue_depth.labels(label).set_function(lambda: 0)
        if label in self._precisions:
            self._proved.remove(label, self._precisions.pop(label))

    def count_load(self, label: str, outcome: str) -> None:
        """Count a load that has ended, "ok" or "failed"."""
        self._loads.labels(label, outcome).inc()

    def set_in_flight(self, count: int) -> None:
        """Set the number of requests in progress."""
        self._in_flight.set(count)

    def count_request(self, api: str, model: Model | None, outcome: Outcome, seconds: float) -> None:
        """Count a request that has ended; ``model`` is None if it named no model of this server."""
        label = "" if model is None else model.label
        self._requests.labels(api, label, outcome.name).inc()
        if outcome.status == 200:
            self._seconds.labels(api, label).observe(seconds)
            if model is not None:
                self._recent[label].add(seconds)

    def recent(self, models: Iterable[Model]) -> list[tuple[Model, dict[str, Any]]]:
        """Each model with the summary of its last minute."""
        return [(model, self._recent[model.label].summary()) for model in models]

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return bytes(generate_latest(self._registry))


class RecentLatencies:
    """How long the answers of the last minute took, for the status page."""

    def __init__(self) -> None:
        self._answers: deque[tuple[float, float]] = deque(maxlen=100_000)

    def add(self, seconds: float) -> None:
        """Record an answer that took so many seconds."""
        self._answers.append((time.monotonic(), seconds))

    def summary(self) -> dict[str, Any]:
        """Answers per second; median and 99th percentile in milliseconds, None without answers."""
        since = time.monotonic() - _RECENT_SECONDS
        while self._answers and self._answers[0][0] < since:
            self._answers.popleft()
        latencies = sorted(seconds for _, seconds in list(self._answers))
        return {
            "answers_per_second": round(len(latencies) / _RECENT_SECONDS, 2),
            "p50_ms": _percentile_ms(latencies, 0.5),
            "p99_ms": _percentile_ms(latencies, 0.99),
        }


def _percentile_ms(ordered: list[float], share: float) -> float | None:
    if not ordered:
        return None
    return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)
