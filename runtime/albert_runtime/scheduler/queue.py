"""The requests that wait, and which of them run next.

The next is the one with the least ``arrived + patience * the seconds it takes``. With patience 0 that is
first come, first served; with more a long request lets short ones pass that came a little later, but none
that came later than ``patience`` times its own seconds: it ages.
"""

import heapq
import itertools
import time

from ..errors import Overloaded
from .requests import Part, Request

_NEW_PASS = 0.1  # its share in what is known of the pace
_MAX_FORGOTTEN = 32

_Entry = tuple[float, int, Part]  # priority, order of arrival

# Of all queues of all processes that fork from this one: a request of another is never taken for one's own.
_keys = itertools.count()


class Waiting:
    """Requests in parts. Not safe for threads: its owner locks, and calls nobody's callback meanwhile.

    ``max_requests`` may be unanswered, ``max_tokens`` run in a pass. ``padded`` says that a pass costs its
    rows times the longest of them. ``pace``: seconds that a token takes, 0 as long as nothing has run.
    """

    pace = 0.0

    def __init__(self, max_requests: int, max_tokens: int, patience: float, *, padded: bool) -> None:
        self.max_requests, self.max_tokens = max_requests, max_tokens
        self.patience, self.padded = patience, padded
        self._unanswered: dict[int, Request] = {}
        # What can run together has a heap of its own. Parts of forgotten requests stay until they come up.
        self._heaps: dict[object, list[_Entry]] = {}
        self._forgotten = 0

    @property
    def has_parts(self) -> bool:
        """Whether anything may be taken."""
        return any(self._heaps.values())

    @property
    def unanswered(self) -> int:
        """Requests that wait or run."""
        return len(self._unanswered)

    def requests(self) -> list[Request]:
        """Those that wait or run."""
        return list(self._unanswered.values())

    def add(self, request: Request, kind: object) -> int:
        """Queue a request, and return its key; requests of one ``kind`` can run together.

        Overloaded if too many wait.
        """
        if self.unanswered >= self.max_requests:
            raise Overloaded(f"{self.unanswered} requests wait already, as many as max_queue allows")
        parts = request.parts(self.max_tokens)
        request.parts_left, request.key = len(parts), next(_keys)
        self._unanswered[request.key] = request
        heap = self._heaps.setdefault(kind, [])
        tokens = 0
        for part in parts:
            tokens += part.tokens
            priority = request.arrived + self.patience * self.pace * tokens
            heapq.heappush(heap, (priority, next(_keys), part))
        return request.key

    def forget(self, key: int) -> None:
        """Nobody waits for the request any more."""
        if self._unanswered.pop(key, None) is None:
            return
        self._forgotten += 1
        if self._forgotten > _MAX_FORGOTTEN + self.unanswered:
            for kind, heap in list(self._heaps.items()):
                heap[:] = [entry for entry in heap if entry[2].request.key in self._unanswered]
                heapq.heapify(heap)
                if not heap:
                    del self._heaps[kind]
            self._forgotten = 0

    def take_expired(self) -> list[Request]:
        """Those whose time is up, which make room."""
        now = time.monotonic()
        expired = [request for request in self._unanswered.values() if request.expired(now)]
        for request in expired:
            self.forget(request.key)
        return expired

    def full(self) -> bool:
        """Whether a pass could be filled."""
        return any(
            sum(part.tokens for _, _, part in heap if part.request.key in self._unanswered) >= self.max_tokens
            for heap in self._heaps.values()
        )

    def take(self) -> tuple[list[Part], list[Request]]:
        """The parts of the next pass, and requests whose time was up before their turn came."""
        parts, expired, now = list[Part](), list[Request](), time.monotonic()
        kinds = [kind for kind, heap in self._heaps.items() if heap]
        if not kinds:
            return parts, expired
        kind = min(kinds, key=lambda kind: self._heaps[kind][0][:2])
        heap = self._heaps[kind]
        tokens = rows = width = 0
        while heap:
            part = heap[0][2]
            new_rows, new_width = rows + part.rows, max(width, part.width)
            cost = new_rows * new_width if self.padded else tokens + part.tokens
            if part.request.key not in self._unanswered:
                heapq.heappop(heap)
            elif part.request.expired(now):
                heapq.heappop(heap)
                self.forget(part.request.key)
                expired.append(part.request)
            elif parts and cost > self.max_tokens:
                break
            else:
                heapq.heappop(heap)
                parts.append(part)
                tokens, rows, width = tokens + part.tokens, new_rows, new_width
        if not heap:
            self._heaps.pop(kind, None)
        return parts, expired

    def ran(self, tokens: int, seconds: float) -> None:
        """Learn from a pass how long a token takes."""
        pace = seconds / tokens
        self.pace = pace if self.pace == 0 else self.pace + _NEW_PASS * (pace - self.pace)

    def over(self, part: Part) -> bool:
        """Count a part as done; whether its request is answered now."""
        part.request.parts_left -= 1
        return part.request.parts_left == 0 and self._unanswered.pop(part.request.key, None) is not None
