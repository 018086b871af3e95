"""What Triton's statistics extension reports of each model: sums since the server started."""

import threading
import time
from collections.abc import Iterable
from typing import Any

from ..scheduler.scheduler import BatchStats
from .model import Model

_DURATIONS = (
    "success",
    "fail",
    "queue",
    "compute_input",
    "compute_infer",
    "compute_output",
    "cache_hit",
    "cache_miss",
)


class _Duration:
    """A number of events and their nanoseconds."""

    __slots__ = ("count", "ns")

    def __init__(self) -> None:
        self.count = self.ns = 0

    def add(self, count: int, seconds: float) -> None:
        self.count += count
        self.ns += round(1e9 * seconds)

    def to_dict(self) -> dict[str, int]:
        return {"count": self.count, "ns": self.ns}


class ModelStatistics:
    """The sums of one model. Any thread may add to them.

    Requests are counted when their answer is sent, whatever the API; a request of /predict with several texts
    waits for each in the queue. The time for reading tensors and writing the answer is in ``success`` only:
    that of compute_input and compute_output stays 0.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._durations = {name: _Duration() for name in _DURATIONS}
        self._by_rows: dict[int, _Duration] = {}
        self._rows = self._batches = self._last_ms = 0

    def add_request(self, seconds: float, *, ok: bool) -> None:
        """Count a request that has ended."""
        with self._lock:
            self._durations["success" if ok else "fail"].add(1, seconds)

    def add_batch(self, batch: BatchStats) -> None:
        """Count a batch that was computed. Each of its requests was computed for as long as it took."""
        begun = len(batch.waited)
        with self._lock:
            self._durations["queue"].add(begun, sum(batch.waited))
            self._durations["compute_infer"].add(begun, batch.seconds * batch.requests)
            for name in ("compute_input", "compute_output"):
                self._durations[name].add(begun, 0.0)
            self._by_rows.setdefault(batch.rows, _Duration()).add(1, batch.seconds)
            self._rows += batch.rows
            self._batches += 1
            self._last_ms = round(1000 * time.time())

    def to_dict(self) -> dict[str, Any]:
        """The fields of Triton's ModelStatistics, except name and version."""
        with self._lock:
            none = _Duration().to_dict()
            return {
                "last_inference": self._last_ms,
                "inference_count": self._rows,
                "execution_count": self._batches,
                "inference_stats": {name: one.to_dict() for name, one in self._durations.items()},
                "batch_stats": [
                    {
                        "batch_size": rows,
                        "compute_input": none,
                        "compute_infer": one.to_dict(),
                        "compute_output": none,
                    }
                    for rows, one in sorted(self._by_rows.items())
                ],
                "memory_usage": [],
            }


class Statistics:
    """The sums of all models of a server. They go on when a model is loaded again."""

    def __init__(self) -> None:
        self._models: dict[str, ModelStatistics] = {}

    def add_model(self, model: Model) -> None:
        """Observe a model's batches from now on."""
        found = self._models.setdefault(model.label, ModelStatistics())
        model.predictor.scheduler.observers.append(found.add_batch)

    def count_request(self, model: Model, seconds: float, *, ok: bool) -> None:
        """Count a request that has ended."""
        self._models[model.label].add_request(seconds, ok=ok)

    def report(self, models: Iterable[Model]) -> dict[str, Any]:
        """Triton's answer about these models, ready for JSON."""
        return {
            "model_stats": [
                {"name": model.name, "version": model.version, **self._models[model.label].to_dict()}
                for model in models
            ]
        }
