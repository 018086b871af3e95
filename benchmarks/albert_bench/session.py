"""One model at one number of threads: start the contenders, check their answers, time them in rounds."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from albert_runtime.artifact.config import AlbertConfig

from .batching import SINGLY, WHOLE, Form, forms, streams
from .check import check
from .peak import ceiling
from .peers.base import ENGINE, PEERS, Answer, Contender
from .prepare import Workshop
from .process import Child, ChildFailed
from .rounds import Times, run_rounds
from .stats import ratios, spread
from .workload import Rows, Work

Say = Callable[[str], None]
REFERENCE = Contender(ENGINE, "fp32")
# Before a turn: threads of the one before spin on for a while (OpenMP's for 0.2 s), and would take half of
# the probe's time and of the turn's beginning.
SETTLE_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Settings:
    """How work is timed: in how many rounds, and for how long a short run repeats within a turn.

    ``brief``: in fewer forms.
    """

    rounds: int = 3
    turn_seconds: float = 0.4
    brief: bool = False

    @property
    def trial_rounds(self) -> int:
        """Rounds in which all forms of a contender take part: 2, but 1 where there are 3 in all."""
        return 1 if self.rounds == 3 else 2


@dataclass
class _Seat:
    """A contender that takes part: its process, and the one for streams where it has one."""

    contender: Contender
    child: Child
    streaming: Child | None


@dataclass
class _Entrant:
    """A contender in one form on one work, and what is reported of it."""

    contender: Contender
    child: Child
    form: Form
    rows: Rows
    turn_seconds: float
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def precision(self) -> str:
        return self.contender.precision

    @property
    def group(self) -> str:
        return self.contender.name

    def turn(self) -> float:
        return self.child.turn(self.rows, self.form, self.turn_seconds)

    def check(self, expected: Sequence[Answer]) -> bool:
        """Whether its answers are right; otherwise the result says what is wrong."""
        self.result |= {"contender": self.contender.name, "form": self.form.name}
        try:
            checked = check(expected, self.child.answer(self.rows, self.form), self.precision)
        except ChildFailed as error:
            self.result["fault"] = str(error)
            return False
        self.result["check"] = {"difference": checked.difference, "cosine": checked.cosine}
        if checked.fault:
            self.result["fault"] = checked.fault
        return not checked.fault


class Session:
    """The processes of the contenders for one artifact and one number of threads; ``with`` ends them."""

    def __init__(self, workshop: Workshop, config: AlbertConfig, threads: int, settings: Settings, say: Say):
        self._workshop, self._config, self._threads = workshop, config, threads
        self._settings, self._say = settings, say
        self._seats: list[_Seat] = []

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *exception: object) -> None:
        for seat in self._seats:
            _dismiss(seat.child, seat.streaming)
        self._seats.clear()

    def start(self, contenders: Sequence[Contender], with_streams: bool) -> list[dict[str, Any]]:
        """Start every contender, with a process for streams of mixed work if wanted.

        Returns what is reported of each, ready for JSON; who cannot start takes no part. ChildFailed if that
        is the engine in fp32, which the others are compared with.
        """
        return [self._start(contender, with_streams) for contender in contenders]

    def measure(self, work: Work) -> dict[str, Any]:
        """Check, then time, everybody on one work; what is reported of it, ready for JSON.

        ChildFailed if the engine gives no answer in fp32.
        """
        rows = work.rows(self._config)
        expected = next(seat for seat in self._seats if seat.contender == REFERENCE).child.answer(rows, WHOLE)
        everybody = self._entrants(work, rows)
        entrants = [entrant for entrant in everybody if entrant.check(expected)]
        for entrant in everybody:
            if "fault" in entrant.result:
                self._say(f"{work.name}: {entrant.contender.name} is left out: {entrant.result['fault']}")
        times = run_rounds(
            entrants,
            self._settings.rounds,
            self._settings.trial_rounds,
            self._ceiling,
            ChildFailed,
            lambda number: self._say(f"{work.name}: round {number + 1} of {self._settings.rounds}"),
        )
        useful = work.flops(self._config)
        engine = {e.precision: t for e, t in zip(entrants, times, strict=True) if e.contender.peer == ENGINE}
        for entrant, mine in zip(entrants, times, strict=True):
            entrant.result |= _figures(mine, useful, engine.get(entrant.precision))
        return {
            "work": work.name,
            "threads": self._threads,
            "lengths": list(work.lengths),
            "tokens": work.tokens,
            "useful_gflop": useful / 1e9,
            "entrants": [entrant.result for entrant in everybody],
        }

    def _ceiling(self, precision: str) -> float | None:
        time.sleep(SETTLE_SECONDS)
        return ceiling(precision, self._threads)

    def _start(self, contender: Contender, with_streams: bool) -> dict[str, Any]:
        name = contender.name
        report: dict[str, Any] = {"contender": name, "peer": contender.peer, "precision": contender.precision}
        self._say(f"{name}: starting on {self._threads} threads")
        child = streaming = None
        try:
            child = Child(self._workshop.job(contender, self._threads))
            report |= child.load()
            if with_streams and self._threads > 1 and PEERS[contender.peer].streams:
                streaming = Child(self._workshop.job(contender, self._threads, self._threads))
                streaming.load()
        except ChildFailed as error:
            _dismiss(child, streaming)
            if contender == REFERENCE:
                raise
            self._say(f"{name}: not available: {error}")
            return report | {"unavailable": str(error)}
        self._seats.append(_Seat(contender, child, streaming))
        if name in self._workshop.seconds:
            report["prepare_s"] = self._workshop.seconds[name]
        return report

    def _entrants(self, work: Work, rows: Rows) -> list[_Entrant]:
        entrants = []
        for seat in self._seats:
            if seat.contender.only and work.name not in seat.contender.only:
                continue
            packs, brief = PEERS[seat.contender.peer].packs, self._settings.brief
            ways = [(form, seat.child) for form in forms(work, packs, brief)]
            if work.is_mixed and seat.streaming is not None:
                ways.append((streams(self._threads), seat.streaming))
                # One by one on all threads at once is seldom better on all threads for each.
                ways = [way for way in ways if not brief or way[0] != SINGLY]
            for form, child in ways:
                entrants.append(_Entrant(seat.contender, child, form, rows, self._settings.turn_seconds))
        return entrants


def _figures(mine: Times, useful: float, engine: Times | None) -> dict[str, Any]:
    """Times in s by round, and of them: ms, operations a second, share of the ceiling, time / engine's."""
    figures: dict[str, Any] = {"seconds": mine.seconds, "ceiling_gflops": _giga(mine.ceiling)}
    if mine.fault is not None:
        figures["fault"] = mine.fault
    if mine.seconds:
        figures["ms"] = spread([1e3 * s for s in mine.seconds.values()]).to_dict()
        figures["gflops"] = spread([useful / s / 1e9 for s in mine.seconds.values()]).to_dict()
    shares = [useful / mine.seconds[number] / limit for number, limit in mine.ceiling.items()]
    if shares:
        figures["share"] = spread(shares).to_dict()
    ratio = ratios(engine.seconds, mine.seconds) if engine is not None else None
    if ratio is not None:
        figures["ratio"] = ratio.to_dict()
    return figures


def _giga(values: dict[int, float]) -> dict[int, float]:
    return {number: value / 1e9 for number, value in values.items()}


def _dismiss(*children: Child | None) -> None:
    for child in children:
        if child is not None:
            child.close()
