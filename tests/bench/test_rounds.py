"""Rounds: who takes a turn when, who is done early, and figures made of turns."""

import pytest

from albert_bench.rounds import run_rounds, turn_order
from albert_bench.stats import ratios, spread


class Fake:
    """A run that notes its turns, takes ``seconds`` and fails in round ``fails_at``."""

    def __init__(self, name, notes, seconds=1.0, precision="fp32", fails_at=None, group=None):
        self.name, self.precision, self.group = name, precision, group or name
        self._notes, self._seconds, self._fails_at, self._turns = notes, seconds, fails_at, 0

    def turn(self):
        self._notes.append(self.name)
        self._turns += 1
        if self._turns - 1 == self._fails_at:
            raise RuntimeError("gone")
        return self._seconds


def test_order_begins_one_later_each_round():
    assert [turn_order(3, number) for number in range(4)] == [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]


def test_runs_take_turns_right_after_a_probe():
    notes = []

    def peak_ops(precision):
        notes.append(precision)
        return 100.0 + len(notes)

    times = run_rounds([Fake("a", notes), Fake("b", notes, precision="int8")], 2, 2, peak_ops, RuntimeError)
    assert notes == ["fp32", "a", "int8", "b", "int8", "b", "fp32", "a"]
    assert [t.seconds for t in times] == [{0: 1.0, 1: 1.0}] * 2
    assert times[0].peak_ops == {0: 101.0, 1: 107.0}
    assert times[1].peak_ops == {0: 103.0, 1: 105.0}


def test_long_work_is_done_after_three_rounds():
    notes = []
    finished = []
    runs = [Fake("long", notes, 5.1), Fake("short", notes, 4.9)]
    times = run_rounds(runs, 5, 2, lambda precision: None, RuntimeError, finished.append)
    assert [len(t.seconds) for t in times] == [3, 5]
    assert [t.peak_ops for t in times] == [{}, {}]
    assert finished == [0, 1, 2, 3, 4]


def test_only_the_best_forms_go_on_after_two_rounds():
    notes = []
    runs = [
        Fake("best", notes, 1.0, group="a"),
        Fake("near", notes, 1.2, group="a"),
        Fake("slow", notes, 1.3, group="a"),
        Fake("other", notes, 1.3, group="b"),
        Fake("fast but gone", notes, 0.5, group="b", fails_at=1),
    ]
    times = run_rounds(runs, 4, 2, lambda precision: None, RuntimeError)
    assert [len(t.seconds) for t in times] == [4, 4, 2, 4, 1]


def test_who_fails_takes_no_more_turns():
    notes = []
    runs = [Fake("a", notes, fails_at=1), Fake("b", notes)]
    times = run_rounds(runs, 3, 2, lambda precision: None, RuntimeError)
    assert notes.count("a") == 2
    assert times[0].fault == "gone"
    assert times[0].seconds == {0: 1.0}
    assert len(times[1].seconds) == 3


def test_spread():
    found = spread([4.0, 1.0, 2.0, 3.0, 5.0])
    assert found.median == 3.0
    assert (found.p10, found.p90) == pytest.approx((1.4, 4.6))
    assert spread([7.0]).to_dict() == {"median": 7.0, "p10": 7.0, "p90": 7.0}


def test_ratios_are_within_rounds():
    # Everybody is twice as slow in round 1: medians apart would hide it, ratios do not see it.
    found = ratios({0: 1.0, 1: 2.0, 2: 1.0}, {0: 3.0, 1: 6.0})
    assert (found.median, found.p10, found.p90) == (3.0, 3.0, 3.0)
    assert ratios({0: 1.0}, {1: 1.0}) is None
