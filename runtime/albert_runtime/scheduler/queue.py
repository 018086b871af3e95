"""The queue of waiting requests, and which of them run next.

The next request is the one with the smallest ``arrived + patience * (estimated seconds to run it)``. With
patience 0 this is first come, first served. With more, a short request may overtake a long one that arrived
shortly before it, but a long request cannot starve: nothing that arrives later than ``patience`` times its
own run time goes first.

When the queue is full, ``add`` raises Overloaded.
"""

import heapq
import itertools
import time

from ..errors import Overloaded
from .requests import Part, Request

_EMA_WEIGHT = 0.1  # of the newest batch, in the moving average of seconds_per_token
_MAX_DISCARDED = 32

_Entry = tuple[float, int, Part]  # priority, order of arrival

# Shared by the queues of all processes that fork from this one, so that keys of two queues never collide.
_keys = itertools.count()


class RequestQueue:
    """Waiting requests, cut into parts. Not thread-safe: the owner locks, and runs no callbacks meanwhile."""

    # Moving average; 0 until something has run.
    seconds_per_token = 0.0

    def __init__(self, max_requests: int, max_tokens: int, patience: float, *, padded: bool) -> None:
        """Create an empty queue.

        Args:
            max_requests: How many requests may be unanswered: waiting or running.
            max_tokens: Tokens in a batch, unless one part alone is longer.
            patience: See the module; 0 = first come, first served.
            padded: Whether the cost of a batch is its rows times its longest row, not its tokens.
        """
        self.max_requests, self.max_tokens = max_requests, max_tokens
        self.patience, self.padded = patience, padded
        self._unanswered: dict[int, Request] = {}
        # One heap for each kind of request. Parts of discarded requests stay until they reach the top.
        self._heaps: dict[object, list[_Entry]] = {}
        self._discarded = 0

    @property
    def has_parts(self) -> bool:
        """Whether there is anything to take."""
        return any(self._heaps.values())

    @property
    def unanswered(self) -> int:
        """Number of requests that wait or run."""
        return len(self._unanswered)

    def requests(self) -> list[Request]:
        """The requests that wait or run."""
        return list(self._unanswered.values())

    def add(self, request: Request, kind: object) -> int:
        """Queue a request and return its key. Only requests of one ``kind`` can share a batch.

        Raises Overloaded if the queue is full.
        """
        if self.unanswered >= self.max_requests:
            raise Overloaded(f"{self.unanswered} requests are waiting already, the limit set by max_queue")
        parts = request.parts(self.max_tokens)
        request.parts_left, request.key = len(parts), next(_keys)
        self._unanswered[request.key] = request
        heap = self._heaps.setdefault(kind, [])
        tokens = 0
        for part in parts:
            tokens += part.tokens
            priority = request.arrived + self.patience * self.seconds_per_token * tokens
            heapq.heappush(heap, (priority, next(_keys), part))
        return request.key

    def discard(self, key: int) -> None:
        """Drop a request that was cancelled, expired or failed."""
        if self._unanswered.pop(key, None) is None:
            return
        self._discarded += 1
        if self._discarded > _MAX_DISCARDED + self.unanswered:
            for kind, heap in list(self._heaps.items()):
                heap[:] = [entry for entry in heap if entry[2].request.key in self._unanswered]
                heapq.heapify(heap)
                if not heap:
                    del self._heaps[kind]
            self._discarded = 0

    def take_expired(self) -> list[Request]:
        """Remove and return the requests whose deadline has passed."""
        now = time.monotonic()
        expired = [request for request in self._unanswered.values() if request.expired(now)]
        for request in expired:
            self.discard(request.key)
        return expired

    def can_fill_batch(self) -> bool:
        """Whether enough tokens of one kind wait to fill a batch."""
        return any(
            sum(part.tokens for _, _, part in heap if part.request.key in self._unanswered) >= self.max_tokens
            for heap in self._heaps.values()
        )

    def take_batch(self) -> tuple[list[Part], list[Request]]:
        """Remove and return the parts of the next batch, and the expired requests found on the way."""
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
                self.discard(part.request.key)
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

    def observe(self, tokens: int, seconds: float) -> None:
        """Update the estimate of the seconds per token from a batch that ran."""
        latest, average = seconds / tokens, self.seconds_per_token
        self.seconds_per_token = latest if average == 0 else average + _EMA_WEIGHT * (latest - average)

    def finish_part(self, part: Part) -> bool:
        """Record that a part has run; True if it was the last one and its request is still wanted."""
        part.request.parts_left -= 1
        return part.request.parts_left == 0 and self._unanswered.pop(part.request.key, None) is not None
