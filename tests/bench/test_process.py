"""Contenders in their own processes, and every way in which such a process may fail."""

import os
import signal

import numpy as np
import pytest

from albert_bench.batching import SINGLY, WHOLE
from albert_bench.peers.base import HIDDEN
from albert_bench.process import Child, ChildFailed
from albert_runtime import Predictor

ROWS = [np.arange(5, 12), np.arange(20, 23)]


@pytest.fixture
def start(make_job):
    """start(**job) -> Child, ended after the test."""
    started = []

    def start(patience=60.0, **job):
        started.append(Child(make_job(**job), patience))
        return started[-1]

    yield start
    for child in started:
        child.close()


def test_answers_are_those_of_the_library(start, tiny):
    child = start()
    assert child.load()["load_s"] > 0
    expected = Predictor(tiny, backend="native").run(ROWS)
    for form in (WHOLE, SINGLY):
        for row, answer in enumerate(child.answer(ROWS, form)):
            np.testing.assert_array_equal(answer[HIDDEN], expected[HIDDEN][row, : len(ROWS[row])])
    assert child.turn(ROWS, WHOLE, 0.0) > 0
    sizes = child.footprint()
    assert 0 < sizes["resident_bytes"] < sizes["peak_bytes"]


def test_what_a_library_raises(start):
    child = start(precision="fp4")
    with pytest.raises(ChildFailed, match=r"^BackendError: precision 'fp4' is"):
        child.load()
    with pytest.raises(ChildFailed, match="'fp4'"):  # and it stays so
        child.turn(ROWS, WHOLE, 0.0)


def test_a_process_that_dies(start):
    child = start()
    child.load()
    os.kill(child.pid, signal.SIGSEGV)
    with pytest.raises(ChildFailed, match=r"^its process died of SIGSEGV"):
        child.answer(ROWS, WHOLE)


def test_a_process_that_hangs(start):
    child = start(patience=0.2)
    os.kill(child.pid, signal.SIGSTOP)
    with pytest.raises(ChildFailed, match=r"^did not answer within 0.2 s"):
        child.load()
