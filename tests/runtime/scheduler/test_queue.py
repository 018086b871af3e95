"""Which request runs next, and what of those that nobody waits for any more stays in the queue."""

import time

import pytest

from albert_runtime import Overloaded
from albert_runtime.batch.pack import pack
from albert_runtime.scheduler.queue import RequestQueue
from albert_runtime.scheduler.requests import Request

from .conftest import LIMITS


def order(requests, patience, budget=10):
    """The lengths of the rows in the order they are taken, of requests (moment, lengths of rows)."""
    queue = RequestQueue(100, budget, patience, padded=False)
    queue.observe(100, 1.0)  # 10 ms a token
    for moment, lengths in requests:
        batch = pack([[1] * length for length in lengths], LIMITS)
        queue.add(Request(batch, ("pooled_output",), arrived=moment), "kind")
    taken = []
    while queue.has_parts:
        parts, _ = queue.take_batch()
        taken.append([part.tokens for part in parts])
    return taken


def test_first_come_first_served_without_patience():
    assert order([(0, [9]), (1, [3]), (2, [9]), (3, [1])], 0.0) == [[9], [3], [9, 1]]


def test_short_ones_pass_long_ones():
    assert order([(0, [9]), (0.01, [3]), (0.02, [9]), (0.03, [1])], 10.0) == [[1, 3], [9], [9]]


def test_long_ones_age():
    """9 tokens at 10 ms with patience 2 let pass those that came up to 0.18 s later, less their own 0.02."""
    assert order([(0, [9]), (0.15, [1])], 2.0, budget=9) == [[1], [9]]
    assert order([(0, [9]), (0.17, [1])], 2.0, budget=9) == [[9], [1]]


def test_long_requests_yield_between_their_parts():
    assert order([(0, [9, 9, 9]), (0.2, [2])], 2.0, budget=9) == [[9], [2], [9], [9]]


def test_what_cannot_run_together_does_not():
    queue = RequestQueue(100, 10, 0.0, padded=False)
    for moment, kind in enumerate("abab"):
        queue.add(Request(pack([[1]], LIMITS), ("pooled_output",), arrived=moment), kind)
    assert [len(queue.take_batch()[0]) for _ in range(2)] == [2, 2] and not queue.has_parts


def test_padded_passes_are_bounded_with_their_padding():
    queue = RequestQueue(100, 10, 0.0, padded=True)
    for length in (5, 4, 1):
        queue.add(Request(pack([[1] * length], LIMITS), ("pooled_output",)), "kind")
    assert [[part.width for part in queue.take_batch()[0]] for _ in range(2)] == [[5, 4], [1]]


def filled(count, most=1000, deadline=None):
    queue = RequestQueue(most, 4, 0.0, padded=False)
    batch = pack([[1, 1]] * 6, LIMITS)
    return queue, [
        queue.add(Request(batch, ("pooled_output",), deadline=deadline), "kind") for _ in range(count)
    ]


def parts_in(queue):
    return sum(map(len, queue._heaps.values()))


def test_a_forgotten_request_makes_room_at_once():
    queue, keys = filled(2, most=2)
    with pytest.raises(Overloaded):
        queue.add(Request(pack([[1]], LIMITS), ("pooled_output",)), "kind")
    queue.discard(keys[0])
    queue.discard(keys[0])
    assert queue.unanswered == 1
    kept = queue.add(Request(pack([[2]], LIMITS), ("pooled_output",)), "kind")
    taken = []
    while queue.has_parts:
        taken += queue.take_batch()[0]
    assert [part.request.key for part in taken] == [keys[1]] * 3 + [kept]


def test_forgotten_requests_do_not_gather():
    """Whoever asks and cancels for ever keeps nothing in the queue."""
    queue, kept = filled(10)
    for _ in range(300):
        key = queue.add(Request(pack([[1, 1]] * 6, LIMITS), ("pooled_output",)), "kind")
        queue.discard(key)
        assert parts_in(queue) <= 3 * (10 + 32 + 10 + 1)
    taken = set()
    while queue.has_parts:
        taken |= {part.request.key for part in queue.take_batch()[0]}
    assert taken == set(kept)


def test_all_forgotten_nothing_runs():
    queue, keys = filled(40)
    for key in keys:
        queue.discard(key)
    assert not queue.unanswered and not queue.can_fill_batch()
    while queue.has_parts:
        assert queue.take_batch() == ([], [])
    assert queue.take_batch() == ([], [])


def test_what_is_late_is_handed_back():
    queue, _ = filled(3, deadline=time.monotonic() - 1)
    parts, late = queue.take_batch()
    assert parts == [] and len(late) == 3 and queue.unanswered == 0
    queue, _ = filled(3, deadline=time.monotonic() - 1)
    assert len(queue.take_expired()) == 3 and queue.unanswered == 0 and queue.take_batch() == ([], [])
