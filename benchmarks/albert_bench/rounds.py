"""Rounds: in each, every entrant takes its turn on the same work, right after a probe of the ceiling."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

LONG_SECONDS = 5.0
ROUNDS_OF_LONG_WORK = 3
# Only a contender's best form counts: one that is slower by as much in each of the first rounds is not it.
SLOW_FORM = 1.25


class Entrant(Protocol):
    """Somebody who takes turns: a contender in one form."""

    @property
    def precision(self) -> str:
        """The precision whose ceiling counts."""
        ...

    @property
    def group(self) -> str:
        """What it is one form of."""
        ...

    def turn(self) -> float:
        """Median seconds of a run, now; ChildFailed if there is no answer."""
        ...


@dataclass
class Times:
    """What one entrant reached: seconds of a run and operations a second of the ceiling, by round."""

    seconds: dict[int, float] = field(default_factory=dict)
    ceiling: dict[int, float] = field(default_factory=dict)
    fault: str | None = None


def order(count: int, number: int) -> list[int]:
    """Who takes a turn when in round ``number``: each round begins one later, so that nobody always follows
    the same one at the same distance from the round's start."""
    return [(number + place) % count for place in range(count)]


def run_rounds(
    entrants: Sequence[Entrant],
    rounds: int,
    trial_rounds: int,
    ceiling: Callable[[str], float | None],
    failures: type[Exception] | tuple[type[Exception], ...],
    finished: Callable[[int], None] = lambda number: None,
) -> list[Times]:
    """The times of every entrant.

    Who fails is done at once, after ``trial_rounds`` the forms that are not a contender's best, and after 3
    rounds those whose run takes over 5 s.
    """
    times = [Times() for _ in entrants]
    for number in range(rounds):
        for index in order(len(entrants), number):
            entrant, mine = entrants[index], times[index]
            rivals = [t for e, t in zip(entrants, times, strict=True) if e.group == entrant.group]
            if mine.fault is not None or _is_done(mine, number, trial_rounds, rivals):
                continue
            limit = ceiling(entrant.precision)
            try:
                mine.seconds[number] = entrant.turn()
            except failures as error:
                mine.fault = str(error)
                continue
            if limit is not None:
                mine.ceiling[number] = limit
        finished(number)
    return times


def _is_done(mine: Times, number: int, trial_rounds: int, rivals: Sequence[Times]) -> bool:
    if number >= ROUNDS_OF_LONG_WORK and max(mine.seconds.values()) > LONG_SECONDS:
        return True
    return number >= trial_rounds and any(_is_slower(mine, rival, trial_rounds) for rival in rivals)


def _is_slower(mine: Times, rival: Times, trial_rounds: int) -> bool:
    """In every of the first rounds, by more than what a busy neighbour explains."""
    if rival.fault is not None:
        return False
    return all(mine.seconds[n] > SLOW_FORM * rival.seconds[n] for n in range(trial_rounds))
