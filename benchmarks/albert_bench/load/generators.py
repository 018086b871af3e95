"""The load itself: a closed loop, as fast as answers come, and an open loop, at a fixed rate.

In the open loop latency counts from the moment a request was due. A stalled server therefore cannot hide the
stall by holding up the client (coordinated omission).
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .client import Connection, Reply

ID = "@@@@@@@@@@@@"  # placeholder for a request's number, which has as many digits
_MAX_CONNECTIONS = 1024
_TIMEOUT = 120.0  # seconds for one answer


@dataclass(slots=True)
class Load:
    """The requests of one turn and their outcomes."""

    offered: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)  # seconds, of requests answered with 200
    # By HTTP status; "broken": the connection failed; "mixed up": the answer has another request's id;
    # "wrong": it is not what the target's check expects.
    statuses: Counter[str] = field(default_factory=Counter)
    tokens: int = 0

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float | None:
        """The latency in seconds that this share of the answers stayed within; None without answers."""
        return float(np.percentile(self.latencies, 100 * share)) if self.latencies else None


@dataclass(frozen=True, slots=True)
class Target:
    """A server and the requests to send it, each as bytes with ID in place of its id, and its tokens.

    ``is_right(number, reply, sent, received)`` checks an answer, if it is given; number is the request's, the
    moments are those of ``time.perf_counter``.
    """

    host: str
    port: int
    requests: Sequence[tuple[bytes, int]]
    is_right: Callable[[int, Reply, float, float], bool] | None = None


async def closed_loop(target: Target, clients: int, seconds: float) -> Load:
    """Clients that each send their next request as soon as they have an answer."""
    load, began = Load(), time.perf_counter()
    numbers = iter(range(1 << 62))

    async def client() -> None:
        connection = Connection(target.host, target.port)
        while time.perf_counter() - began < seconds:
            await _ask(target, connection, load, next(numbers), time.perf_counter())
        await connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    load.seconds = time.perf_counter() - began
    return load


async def open_loop(target: Target, rate: float, seconds: float, seed: int = 0) -> Load:
    """Requests at random moments, ``rate`` per second (a Poisson process); ends when all are answered."""
    due = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, int(rate * seconds) + 1))
    load, began = Load(), time.perf_counter()
    idle: list[Connection] = []
    running: set[asyncio.Task[None]] = set()

    async def request(number: int, moment: float) -> None:
        connection = idle.pop() if idle else Connection(target.host, target.port)
        await _ask(target, connection, load, number, moment)
        idle.append(connection)

    for number, moment in enumerate(due[due < seconds]):
        wait = began + moment - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        while len(running) >= _MAX_CONNECTIONS:
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.ensure_future(request(number, began + moment))
        running.add(task)
        task.add_done_callback(running.discard)
    if running:
        await asyncio.wait(running)
    load.seconds = max(seconds, time.perf_counter() - began)
    for connection in idle:
        await connection.close()
    return load


async def _ask(target: Target, connection: Connection, load: Load, number: int, due: float) -> None:
    template, tokens = target.requests[number % len(target.requests)]
    name = f"{number:012d}"
    load.offered += 1
    sent = time.perf_counter()
    try:
        reply = await asyncio.wait_for(connection.ask(template.replace(ID.encode(), name.encode())), _TIMEOUT)
    except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
        load.statuses["broken"] += 1
        return
    if reply.status == 200 and reply.id != name:
        load.statuses["mixed up"] += 1
        return
    received = time.perf_counter()
    if reply.status == 200 and target.is_right and not target.is_right(number, reply, sent, received):
        load.statuses["wrong"] += 1
        return
    load.statuses[str(reply.status)] += 1
    if reply.status == 200:
        load.latencies.append(received - due)
        load.tokens += tokens
