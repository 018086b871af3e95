"""The requests that wait, and which of them run next.

The next is the one with the least ``arrived + patience * the seconds it takes``. With patience 0 that is
first come, first served; with more a long request lets short ones pass that came a little later, but none
that came later than ``patience`` times its own seconds: it ages.
"""

import heapq
import itertools
import time
from collections.abc import Iterator

from ..errors import DeadlineExceeded, Overloaded
from .requests import Part, Request

_NEW_PASS = 0.1  # its share in what is known of the pace

_Entry = tuple[float, int, Part]  # priority, order of arrival


class Waiting:
    """Requests in parts. Not safe for threads: its owner locks.

    ``most_requests`` may be unanswered, ``most_tokens`` run in a pass. ``padded`` says that a pass costs its
    rows times the longest of them. ``pace``: seconds that a token takes, 0 as long as nothing has run.
    """

    pace = 0.0

    def __init__(self, most_requests: int, most_tokens: int, patience: float, *, padded: bool) -> None:
        self.most_requests, self.most_tokens = most_requests, most_tokens
        self.patience, self.padded = patience, padded
        self.unanswered = 0
        # What can run together has a heap of its own.
        self._heaps: dict[object, list[_Entry]] = {}
        self._order = itertools.count()

    def __bool__(self) -> bool:
        return any(self._heaps.values())

    def add(self, request: Request, kind: object) -> None:
        """Queue a request; requests of one ``kind`` can run together. Overloaded if too many wait."""
        if self.unanswered >= self.most_requests:
            self._drop_unwanted()
        if self.unanswered >= self.most_requests:
            raise Overloaded(f"{self.unanswered} requests wait already, as many as max_queue allows")
        parts = request.parts(self.most_tokens)
        request.parts_left = len(parts)
        self.unanswered += 1
        heap = self._heaps.setdefault(kind, [])
        tokens = 0
        for part in parts:
            tokens += part.tokens
            priority = request.arrived + self.patience * self.pace * tokens
            heapq.heappush(heap, (priority, next(self._order), part))

    def full(self) -> bool:
        """Whether a pass could be filled."""
        return any(
            sum(part.tokens for _, _, part in heap) >= self.most_tokens for heap in self._heaps.values()
        )

    def requests(self) -> Iterator[Request]:
        """Those of which parts wait, once for each of these."""
        return (part.request for heap in self._heaps.values() for _, _, part in heap)

    def take(self) -> list[Part]:
        """The parts of the next pass. Their requests can no longer be cancelled."""
        kind = min(
            (kind for kind, heap in self._heaps.items() if heap), key=lambda kind: self._heaps[kind][0][:2]
        )
        heap, parts, now = self._heaps[kind], list[Part](), time.monotonic()
        tokens = rows = width = 0
        while heap:
            part = heap[0][2]
            new_rows, new_width = rows + part.rows, max(width, part.width)
            cost = new_rows * new_width if self.padded else tokens + part.tokens
            if parts and cost > self.most_tokens:
                break
            heapq.heappop(heap)
            if self._wanted(part, now) and self._begin(part):
                parts.append(part)
                tokens, rows, width = tokens + part.tokens, new_rows, new_width
        if not heap:
            del self._heaps[kind]
        return parts

    def ran(self, tokens: int, seconds: float) -> None:
        """Learn from a pass how long a token takes."""
        pace = seconds / tokens
        self.pace = pace if self.pace == 0 else self.pace + _NEW_PASS * (pace - self.pace)

    def over(self, part: Part) -> bool:
        """Count a part as done; whether its request is answered now."""
        part.request.parts_left -= 1
        answered = part.request.parts_left == 0
        self.unanswered -= answered
        return answered

    def _wanted(self, part: Part, now: float) -> bool:
        """Whether somebody still waits for the part; if not it is over and costs nothing."""
        request = part.request
        if request.deadline is not None and now > request.deadline:
            request.fail(
                DeadlineExceeded(f"its time was up after {now - request.arrived:.3f} s in the queue")
            )
        if not request.future.done():
            return True
        self.over(part)
        return False

    def _begin(self, part: Part) -> bool:
        future = part.request.future
        if future.running() or future.set_running_or_notify_cancel():
            return True
        self.over(part)
        return False

    def _drop_unwanted(self) -> None:
        now = time.monotonic()
        for heap in self._heaps.values():
            heap[:] = [entry for entry in heap if self._wanted(entry[2], now)]
            heapq.heapify(heap)
