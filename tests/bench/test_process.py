"""Contenders in their own processes, and every way in which such a process may fail."""

import os
import signal

import numpy as np
import pytest

from albert_bench.batching import ONE_BY_ONE, WHOLE
from albert_bench.peers.base import HIDDEN
from albert_bench.process import Process, ProcessFailed
from albert_runtime import Predictor

ROWS = [np.arange(5, 12), np.arange(20, 23)]


@pytest.fixture
def start(make_job):
    """start(**job) -> Process, ended after the test."""
    started = []

    def start(timeout=60.0, **job):
        started.append(Process(make_job(**job), timeout))
        return started[-1]

    yield start
    for process in started:
        process.close()


def test_answers_are_those_of_the_library(start, tiny):
    process = start()
    assert process.load()["load_s"] > 0
    expected = Predictor(tiny, backend="native").run(ROWS)
    for batching in (WHOLE, ONE_BY_ONE):
        for row, answer in enumerate(process.answer(ROWS, batching)):
            np.testing.assert_array_equal(answer[HIDDEN], expected[HIDDEN][row, : len(ROWS[row])])
    assert process.turn(ROWS, WHOLE, 0.0) > 0
    sizes = process.footprint()
    assert 0 < sizes["resident_bytes"] < sizes["peak_bytes"]


def test_what_a_library_raises(start):
    process = start(precision="fp4")
    with pytest.raises(ProcessFailed, match=r"^BackendError: precision 'fp4' is"):
        process.load()
    with pytest.raises(ProcessFailed, match="'fp4'"):  # and it stays so
        process.turn(ROWS, WHOLE, 0.0)


def test_a_process_that_dies(start):
    process = start()
    process.load()
    os.kill(process.pid, signal.SIGSEGV)
    with pytest.raises(ProcessFailed, match=r"^its process died of SIGSEGV"):
        process.answer(ROWS, WHOLE)


def test_a_process_that_hangs(start):
    process = start(timeout=0.2)
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(ProcessFailed, match=r"^did not answer within 0.2 s"):
        process.load()
