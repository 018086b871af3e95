"""Bad requests, full queues, deadlines, and callers who go."""

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError, wait

import pytest

from albert_runtime import BackendError, Closed, DeadlineExceeded, InputError, Overloaded, Predictor

from .conftest import assert_equal


def test_a_bad_request_fails_alone(predictor):
    good = predictor.submit([[1, 2]])
    with pytest.raises(InputError, match="row 0, column 1: input_ids holds 70"):
        predictor.submit([[1, 70]])
    assert_equal(good.result(10), predictor.run([[1, 2]]))


def test_what_fails_in_the_backend_fails_alone(predictor, gate, monkeypatch):
    run = predictor.scheduler.run

    def failing(batch, outputs, score_tokens):
        if 13 in batch.input_ids:
            raise BackendError("unlucky")
        return run(batch, outputs, score_tokens)

    monkeypatch.setattr(predictor.scheduler, "run", failing)
    futures = [predictor.submit([[number]]) for number in (1, 12, 13, 14)]
    gate.open()
    for number, future in zip((1, 12, 13, 14), futures, strict=True):
        if number == 13:
            with pytest.raises(BackendError, match="unlucky"):
                future.result(10)
        else:
            assert_equal(future.result(10), predictor.run([[number]]))
    assert predictor.scheduler.unanswered == 0


def test_an_observer_that_fails_harms_nobody(predictor, caplog):
    predictor.scheduler.observers.append(lambda done: 1 / 0)
    for _ in range(2):
        assert_equal(predictor.submit([[1, 2]]).result(10), predictor.run([[1, 2]]))
    predictor.close()
    assert caplog.text.count("ZeroDivisionError") == 2


def test_a_full_queue(make_artifact, monkeypatch):
    with Predictor(make_artifact(), max_queue=3) as predictor:
        release = threading.Event()
        run = predictor.scheduler.run
        monkeypatch.setattr(predictor.scheduler, "run", lambda *call: release.wait(10) and run(*call))
        futures = [predictor.submit([[1]]) for _ in range(3)]
        with pytest.raises(Overloaded, match="3 requests are waiting already, the limit set by max_queue"):
            predictor.submit([[2]])
        assert futures[2].cancel()  # makes room
        later = predictor.submit([[2]])
        release.set()
        assert_equal(later.result(10), predictor.run([[2]]))
        assert_equal(futures[1].result(10), predictor.run([[1]]))
        assert predictor.scheduler.unanswered == 0


def test_cancelled_and_expired_requests_cost_nothing(predictor, gate):
    predictor.submit([[1]])
    gate.wait_for_pass()
    cancelled = predictor.submit([[2]])
    expired = predictor.submit([[3]], timeout=0.01)
    kept = predictor.submit([[4]], timeout=10)
    assert cancelled.cancel()
    time.sleep(0.05)
    gate.open()
    assert_equal(kept.result(10), predictor.run([[4]]))
    with pytest.raises(DeadlineExceeded, match=r"its time was up after 0\.\d+ s in the queue"):
        expired.result(10)
    with pytest.raises(CancelledError):
        cancelled.result(10)
    computed = {int(ids) for batch in gate.passes for ids in batch.input_ids}
    assert computed == {1, 4} and predictor.scheduler.unanswered == 0


def test_a_cancelled_task_costs_nothing(predictor, gate):
    async def ask():
        first = asyncio.ensure_future(predictor.arun([[1]]))
        while not gate.passes:
            await asyncio.sleep(0.001)
        second = asyncio.ensure_future(predictor.arun([[2]]))
        while predictor.scheduler.unanswered < 2:
            await asyncio.sleep(0.001)
        second.cancel()
        third = asyncio.ensure_future(predictor.arun([[3]]))
        third.cancel()  # before it was submitted
        await asyncio.sleep(0.05)
        gate.open()
        return await first

    asyncio.run(ask())
    predictor.close()
    assert [batch.input_ids.tolist() for batch in gate.passes] == [[1]]


def test_close_answers_what_was_accepted(predictor, gate):
    futures = [predictor.submit([[number]]) for number in range(1, 30)]
    threading.Timer(0.05, gate.open).start()
    predictor.close()
    assert all(future.done() for future in futures)
    with pytest.raises(Closed, match="this predictor is closed"):
        predictor.submit([[1]])
    assert predictor.run([[1]])


def test_a_predictor_nobody_holds_goes_with_its_thread(make_artifact):
    predictor = Predictor(make_artifact())
    predictor.submit([[1]]).result(10)
    thread, gone = predictor.scheduler._thread, weakref.ref(predictor)
    del predictor
    gc.collect()
    thread.join(10)
    assert gone() is None and not thread.is_alive()


def test_a_predictor_nobody_holds_answers_what_it_accepted(make_artifact):
    path = make_artifact()
    expected = Predictor(path).run([[1, 2]])
    assert_equal(Predictor(path).submit([[1, 2]]).result(10), expected)
    futures = [Predictor(path, max_queue_delay=60).submit([[1, 2]]) for _ in range(3)]
    gc.collect()
    for future in futures:
        assert_equal(future.result(10), expected)


def test_at_exit_waiting_requests_are_dropped(make_artifact):
    code = """
import atexit, sys
atexit.register(lambda: print(future.cancelled(), predictor.scheduler._thread.is_alive()))  # the last
from albert_runtime import Predictor
predictor = Predictor(sys.argv[1], max_queue_delay=60)
future = predictor.submit([[1, 2]])
"""
    command = [sys.executable, "-c", code, str(make_artifact())]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert (ran.stdout, ran.stderr) == ("True False\n", "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_batch_tokens": 0}, "max_batch_tokens is 0; give a whole number from 1"),
        ({"max_queue": 1.5}, "max_queue is 1.5; give a whole number from 1"),
        ({"max_queue_delay": -1}, "max_queue_delay is -1; give seconds from 0 to 60"),
    ],
)
def test_bad_options(make_artifact, options, message):
    with pytest.raises(BackendError, match=message):
        Predictor(make_artifact(), **options)


def test_a_long_request_can_be_cancelled_between_its_parts(predictor, gate):
    """Though a part of it has run, the rest of 20 passes is not."""
    long = predictor.submit([[1] * 10] * 40)
    gate.wait_for_pass()
    assert long.cancel() and predictor.scheduler.unanswered == 0
    gate.open()
    assert_equal(predictor.submit([[2]]).result(10), predictor.run([[2]]))
    assert len(gate.passes) == 2


def test_the_time_of_a_long_request_may_end_between_its_parts(predictor, gate):
    long = predictor.submit([[1] * 10] * 40, timeout=0.05)
    gate.wait_for_pass()
    time.sleep(0.1)
    gate.open()
    with pytest.raises(DeadlineExceeded):
        long.result(10)
    predictor.close()
    assert len(gate.passes) == 1


def test_whoever_waits_for_many_learns_of_the_cancelled(predictor, gate):
    futures = [predictor.submit([[number]]) for number in range(1, 4)]
    gate.wait_for_pass()
    threading.Timer(0.05, futures[2].cancel).start()
    done, _ = wait([futures[2]], timeout=10)
    assert done == {futures[2]} and predictor.scheduler.unanswered == 2


def test_a_deadline_is_told_in_time(predictor, gate):
    """Not when it would have been the request's turn, and not when the pass it is in ends."""

    async def ask(batch):
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"not answered within 0\.05 s"):
            await predictor.arun(batch, timeout=0.05)
        return time.monotonic() - began

    async def ask_both():
        return await asyncio.gather(ask([[1]]), ask([[2]]))

    assert max(asyncio.run(ask_both())) < 5
    assert predictor.scheduler.unanswered == 0


def test_callbacks_may_do_as_they_like(predictor, gate):
    """They are called outside the queue's lock: here one waits for another thread that submits."""
    predictor.submit([[1]])
    gate.wait_for_pass()
    results, called = [], threading.Event()

    def ask(future):
        asking = threading.Thread(target=lambda: results.append(predictor.submit([[3]])))
        asking.start()
        asking.join(10)
        called.set()

    expired = predictor.submit([[2]], timeout=0.01)
    expired.add_done_callback(ask)
    time.sleep(0.05)
    gate.open()
    with pytest.raises(DeadlineExceeded):
        expired.result(10)
    assert called.wait(5) and results[0].result(10)


def test_a_thread_that_cannot_start_is_tried_again(predictor, monkeypatch):
    def fails(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fails)
        with pytest.raises(RuntimeError):
            predictor.submit([[1]])
    assert predictor.scheduler.unanswered == 0
    assert_equal(predictor.submit([[1]]).result(10), predictor.run([[1]]))


def test_given_up_at_close(predictor, gate):
    futures = [predictor.submit([[number]]) for number in range(1, 5)]
    gate.wait_for_pass()
    threading.Timer(0.05, gate.open).start()
    predictor.scheduler.close(cancel=True)
    assert all(future.cancelled() for future in futures) and len(gate.passes) == 1
