"""How is it timed? In rounds: each run takes a turn on one workload, right after the peak is measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

LONG_SECONDS = 5.0
MAX_LONG_ROUNDS = 3
# Only a contender's best batching counts; one that is slower by this factor in each trial round cannot be it.
SLOW_BATCHING = 1.25


class Run(Protocol):
    """What takes turns: a contender in one batching."""

    @property
    def precision(self) -> str:
        """The precision whose peak it is compared with."""
        ...

    @property
    def group(self) -> str:
        """The contender; only the fastest run of a group counts."""
        ...

    def turn(self) -> float:
        """Run the workload now, perhaps several times; the median seconds."""
        ...


@dataclass
class Times:
    """What was measured of one run, by round: seconds, and the machine's peak in operations per second."""

    seconds: dict[int, float] = field(default_factory=dict)
    peak_ops: dict[int, float] = field(default_factory=dict)
    fault: str | None = None


def turn_order(count: int, number: int) -> list[int]:
    """The order of turns in round ``number``.

    Each round starts one run later, so that no run is always first or always last.
    """
    return [(number + place) % count for place in range(count)]


def run_rounds(
    runs: Sequence[Run],
    rounds: int,
    trial_rounds: int,
    peak_ops: Callable[[str], float | None],
    failures: type[Exception] | tuple[type[Exception], ...],
    on_round_end: Callable[[int], None] = lambda number: None,
) -> list[Times]:
    """Time all runs in turn.

    A run that fails is dropped at once. After ``trial_rounds``, batchings that cannot be their contender's
    best are dropped; after 3 rounds, so are runs of over 5 s.

    Args:
        runs: What to time.
        rounds: How many turns each run gets.
        trial_rounds: How many of them every batching takes part in.
        peak_ops: Measures the peak of a precision, in operations per second; None where it is unknown.
        failures: Exceptions of ``Run.turn`` that mean a failed run.
        on_round_end: Called with the number of each finished round.

    Returns:
        The times of each run, in the order of ``runs``.
    """
    times = [Times() for _ in runs]
    for number in range(rounds):
        for index in turn_order(len(runs), number):
            run, mine = runs[index], times[index]
            rivals = [t for other, t in zip(runs, times, strict=True) if other.group == run.group]
            if mine.fault is not None or _is_done(mine, number, trial_rounds, rivals):
                continue
            peak = peak_ops(run.precision)
            try:
                mine.seconds[number] = run.turn()
            except failures as error:
                mine.fault = str(error)
                continue
            if peak is not None:
                mine.peak_ops[number] = peak
        on_round_end(number)
    return times


def _is_done(mine: Times, number: int, trial_rounds: int, rivals: Sequence[Times]) -> bool:
    if number >= MAX_LONG_ROUNDS and max(mine.seconds.values()) > LONG_SECONDS:
        return True
    return number >= trial_rounds and any(_is_slower(mine, rival, trial_rounds) for rival in rivals)


def _is_slower(mine: Times, rival: Times, trial_rounds: int) -> bool:
    """Slower in every trial round, by more than a busy neighbour can explain."""
    if rival.fault is not None:
        return False
    return all(mine.seconds[n] > SLOW_BATCHING * rival.seconds[n] for n in range(trial_rounds))
