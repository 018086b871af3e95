"""Which rows run together and in which order; every answer goes back to its row."""

import threading

import numpy as np
import pytest

from albert_bench.batching import ONE_BY_ONE, WHOLE, Batching, Runner, batchings, split_rows, streams
from albert_bench.peers.base import HIDDEN, POOLED, padded
from albert_bench.workload import mixed, uniform

LENGTHS = (7, 2, 9, 4, 5)


class Echo:
    """Answers with the ids themselves, padded by -1, and their sums."""

    def __init__(self):
        self.threads = set()

    def run(self, rows):
        self.threads.add(threading.get_ident())
        ids, mask, _ = padded(rows)
        hidden = np.where(mask == 1, ids, -1).astype(np.float32)[..., None]
        return {HIDDEN: hidden, POOLED: np.float32([[row.sum()] for row in rows])}


def test_groups():
    assert WHOLE.groups(LENGTHS) == [[0, 1, 2, 3, 4]]
    assert ONE_BY_ONE.groups(LENGTHS) == [[0], [1], [2], [3], [4]]
    assert Batching("", 2).groups(LENGTHS) == [[1, 3], [4, 0], [2]]
    assert streams(2).groups(LENGTHS) == ONE_BY_ONE.groups(LENGTHS)


@pytest.mark.parametrize("batching", [WHOLE, ONE_BY_ONE, Batching("", 2), Batching("", 8), streams(2)])
def test_answers_find_their_rows(batching):
    rows = [np.arange(length) + 10 * length for length in LENGTHS]
    answers = split_rows(Runner(Echo()).run(rows, batching), LENGTHS, HIDDEN)
    for row, answer in zip(rows, answers, strict=True):
        np.testing.assert_array_equal(answer[HIDDEN][:, 0], row)
        np.testing.assert_array_equal(answer[POOLED], [row.sum()])


def test_streams_are_threads_of_their_own():
    model = Echo()
    runner = Runner(model)
    rows = [np.arange(1, 3)] * 50
    runner.run(rows, WHOLE)
    assert model.threads == {threading.get_ident()}
    runner.run(rows, streams(2))
    runner.run(rows, streams(2))
    assert 2 <= len(model.threads) <= 3


def test_batchings_of_a_workload():
    def names(workload, packs, brief=False):
        return [batching.name for batching in batchings(workload, packs, brief)]

    assert names(uniform(8, 128), False) == ["whole"]
    assert names(mixed(32), True) == ["whole"]
    assert names(mixed(32), False) == ["whole", "one by one", "buckets of 4", "buckets of 8"]
    assert names(mixed(128), False) == ["one by one", "buckets of 4", "buckets of 8"]
    assert names(mixed(32), False, brief=True) == ["one by one", "buckets of 4"]
    assert names(mixed(32), True, brief=True) == names(uniform(1, 16), False, brief=True) == ["whole"]


def test_padded():
    ids, mask, types = padded([np.array([3, 4, 5]), np.array([6])])
    assert ids.tolist() == [[3, 4, 5], [6, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert types.tolist() == [[0] * 3] * 2
    assert ids.dtype == mask.dtype == types.dtype == np.int64
