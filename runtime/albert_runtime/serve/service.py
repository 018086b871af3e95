"""What HTTP and gRPC share: the models, the admission of requests, how they are recorded, and the drain."""

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from ..errors import Overloaded
from .errors import CANCELLED, INTERNAL, OK, Outcome, Unavailable, outcome_of
from .limits import ServerLimits
from .loading import Loader
from .metrics import Metrics
from .model import Model
from .models import Models
from .statistics import Statistics
from .tracing import EndSpan, span

_log = logging.getLogger("albert_serve")


@dataclass(slots=True)
class ActiveRequest:
    """A request in progress. Its handler sets ``model`` once it knows it; logs and metrics then name it."""

    model: Model | None = None


class Service:
    """The state of a server: its models, its metrics and the requests in progress.

    Must be created in the event loop that serves.

    Args:
        models: The models to serve, which ``loader`` loads.
        limits: Limits on requests and on the server.
        allow_load: Whether clients may load and unload models.
    """

    def __init__(self, models: Models, limits: ServerLimits, *, allow_load: bool = False) -> None:
        self.models, self.limits = models, limits
        self.metrics, self.statistics = Metrics(), Statistics()
        self.loader = Loader(models, self.metrics, self.statistics, allow_requests=allow_load)
        self.started = time.time()
        self._in_flight = 0
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def ready(self) -> bool:
        """Whether all models have been loaded and the server is not shutting down."""
        return self.loader.started and not self._draining

    def check_ready(self) -> None:
        """Raise Unavailable, which says why, unless the server is ready."""
        if self._draining:
            raise Unavailable("this server is shutting down")
        if not self.loader.started:
            raise Unavailable(f"this server is {self.loader.progress}")

    async def drain(self) -> bool:
        """Refuse new requests and wait for those in progress.

        Returns:
            Whether all of them ended within ``limits.drain_timeout``.
        """
        self._draining = True
        try:
            await asyncio.wait_for(self._idle.wait(), self.limits.drain_timeout)
        except asyncio.TimeoutError:
            return False
        return True

    @contextmanager
    def admit(self, api: str, headers: Mapping[str, str]) -> Iterator[ActiveRequest]:
        """Admit a request, or refuse it; when the block ends, log, count and trace its outcome.

        Args:
            api: The API that was called, as logs and metrics name it, such as "v2" or "grpc".
            headers: The request's headers, which may name the client's trace.

        Raises:
            Unavailable: The server is loading its models or shutting down.
            Overloaded: ``limits.max_concurrency`` requests are in progress.
        """
        with span(api, headers) as end_span:
            yield from self._admit(api, end_span)

    def _admit(self, api: str, end_span: EndSpan) -> Iterator[ActiveRequest]:
        active, began = ActiveRequest(), time.perf_counter()
        self._in_flight += 1
        self._idle.clear()
        self.metrics.set_in_flight(self._in_flight)
        outcome = OK
        try:
            self._check_capacity()
            yield active
        except asyncio.CancelledError:
            outcome = CANCELLED
            raise
        except Exception as error:
            outcome = outcome_of(error)
            raise
        finally:
            self._in_flight -= 1
            self.metrics.set_in_flight(self._in_flight)
            if self._in_flight == 0:
                self._idle.set()
            end_span(None if active.model is None else active.model.label, outcome)
            self._record(api, active.model, outcome, time.perf_counter() - began)

    def _check_capacity(self) -> None:
        self.check_ready()
        if self._in_flight > self.limits.max_concurrency:
            raise Overloaded(
                f"this server is already handling {self.limits.max_concurrency} requests; try again later"
            )

    def _record(self, api: str, model: Model | None, outcome: Outcome, seconds: float) -> None:
        self.metrics.count_request(api, model, outcome, seconds)
        if model is not None:
            self.statistics.count_request(model, seconds, ok=outcome is OK)
        fields = {
            "api": api,
            "model": None if model is None else model.label,
            "outcome": outcome.name,
            "status": outcome.status,
            "ms": round(1000 * seconds, 2),
        }
        level = logging.ERROR if outcome is INTERNAL else logging.INFO
        _log.log(level, "request", extra={"fields": fields}, exc_info=outcome is INTERNAL)
