"""Rounds: in each, every entrant takes its turn on the same work, right after a probe of the ceiling."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

LONG_SECONDS = 5.0
ROUNDS_OF_LONG_WORK = 3


class Entrant(Protocol):
    """Somebody who takes turns: a contender in one form."""

    @property
    def precision(self) -> str:
        """The precision whose ceiling counts."""
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
    ceiling: Callable[[str], float | None],
    failures: type[Exception] | tuple[type[Exception], ...],
    finished: Callable[[int], None] = lambda number: None,
) -> list[Times]:
    """The times of every entrant. Whose run takes over 5 s is done after 3 rounds, who fails at once."""
    times = [Times() for _ in entrants]
    for number in range(rounds):
        for index in order(len(entrants), number):
            entrant, mine = entrants[index], times[index]
            if mine.fault is not None or _is_done(mine, number):
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


def _is_done(times: Times, number: int) -> bool:
    return number >= ROUNDS_OF_LONG_WORK and max(times.seconds.values()) > LONG_SECONDS
