"""What HTTP and gRPC have in common: the models, who is let in, how requests end, and going down."""

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ..errors import Overloaded
from .errors import CANCELLED, INTERNAL, OK, Outcome, Unavailable, outcome_of
from .limits import Limits
from .metrics import Metrics
from .models import Model, Models
from .tracing import End, span

_log = logging.getLogger("albert_serve")


class Service:
    """The state of a server."""

    def __init__(self, models: Models, limits: Limits) -> None:
        self.models, self.limits = models, limits
        self.metrics = Metrics()
        self.started = time.time()
        self._in_flight = 0
        self._ready = self._draining = False
        self._empty = asyncio.Event()
        self._empty.set()
        for model in models:
            self.metrics.watch(model)

    @property
    def ready(self) -> bool:
        """Whether every model has answered once, and the server stays."""
        return self._ready and not self._draining

    async def warm_up(self) -> None:
        """Let every model answer once; ready from then on."""
        for model in self.models:
            await asyncio.to_thread(model.warm_up)
        self._ready = True

    def refuse_new(self) -> None:
        """From now on Unavailable."""
        self._draining = True

    async def drain(self) -> bool:
        """Wait until all that was let in is answered; False if the time for it was up."""
        self.refuse_new()
        try:
            await asyncio.wait_for(self._empty.wait(), self.limits.drain_timeout)
        except asyncio.TimeoutError:
            return False
        return True

    @contextmanager
    def request(self, api: str, headers: Mapping[str, str]) -> "Iterator[Ticket]":
        """Let a request in, or Unavailable or Overloaded; log, count and trace how it ends."""
        with span(api, headers) as end:
            yield from self._admitted(api, end)

    def _admitted(self, api: str, end: End) -> "Iterator[Ticket]":
        ticket, began = Ticket(), time.perf_counter()
        self._in_flight += 1
        self._empty.clear()
        self.metrics.in_flight(self._in_flight)
        outcome = OK
        try:
            if not self.ready:
                raise Unavailable("this server is going down" if self._draining else "this server warms up")
            if self._in_flight > self.limits.concurrency:
                raise Overloaded(f"{self.limits.concurrency} requests are in this server already")
            yield ticket
        except asyncio.CancelledError:
            outcome = CANCELLED
            raise
        except Exception as error:
            outcome = outcome_of(error)
            raise
        finally:
            self._in_flight -= 1
            self.metrics.in_flight(self._in_flight)
            if self._in_flight == 0:
                self._empty.set()
            end(None if ticket.model is None else ticket.model.label, outcome)
            self._over(api, ticket.model, outcome, time.perf_counter() - began)

    def _over(self, api: str, model: Model | None, outcome: Outcome, seconds: float) -> None:
        self.metrics.ended(api, model, outcome, seconds)
        fields = {
            "api": api,
            "model": None if model is None else model.label,
            "outcome": outcome.name,
            "status": outcome.status,
            "ms": round(1000 * seconds, 2),
        }
        level = logging.ERROR if outcome is INTERNAL else logging.INFO
        _log.log(level, "request", extra={"fields": fields}, exc_info=outcome is INTERNAL)


class Ticket:
    """A request that was let in."""

    model: Model | None = None
