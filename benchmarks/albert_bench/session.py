"""One model at one number of threads: start the contenders, check their answers, time them in rounds."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from albert_runtime import AlbertConfig

from .batching import ONE_BY_ONE, WHOLE, Batching, batchings, streams
from .check import check
from .peak import peak_ops
from .peers.base import ENGINE, PEERS, Answer, Contender
from .prepare import Preparer
from .process import Process, ProcessFailed
from .rounds import Times, run_rounds
from .stats import ratios, spread
from .workload import Rows, Workload

Log = Callable[[str], None]
REFERENCE = Contender(ENGINE, "fp32")
# Threads of the turn before keep spinning for a while (OpenMP's for 0.2 s); without a pause they would take
# CPU time from the peak's measurement and from the start of the next turn.
SETTLE_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Settings:
    """How workloads are timed.

    Attributes:
        rounds: Turns of each run.
        turn_seconds: How long a short run is repeated within a turn.
        brief: Whether to try fewer batchings.
    """

    rounds: int = 3
    turn_seconds: float = 0.4
    brief: bool = False

    @property
    def trial_rounds(self) -> int:
        """Rounds that all batchings of a contender take part in: 2, but 1 of 3."""
        return 1 if self.rounds == 3 else 2


@dataclass
class _Participant:
    """A contender that has started: its process, and a second one for streams if it has any."""

    contender: Contender
    process: Process
    stream_process: Process | None


@dataclass
class _ContenderRun:
    """A contender in one batching on one workload, and its results."""

    contender: Contender
    process: Process
    batching: Batching
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
        return self.process.turn(self.rows, self.batching, self.turn_seconds)

    def check(self, expected: Sequence[Answer]) -> bool:
        """Whether its answers are right; if not, the result says what is wrong."""
        self.result |= {"contender": self.contender.name, "form": self.batching.name}
        try:
            checked = check(expected, self.process.answer(self.rows, self.batching), self.precision)
        except ProcessFailed as error:
            self.result["fault"] = str(error)
            return False
        self.result["check"] = {"difference": checked.difference, "cosine": checked.cosine}
        if checked.fault:
            self.result["fault"] = checked.fault
        return not checked.fault


class Session:
    """The contenders' processes for one artifact and one number of threads; ends them on exit."""

    def __init__(self, preparer: Preparer, config: AlbertConfig, threads: int, settings: Settings, log: Log):
        self._preparer, self._config, self._threads = preparer, config, threads
        self._settings, self._log = settings, log
        self._participants: list[_Participant] = []

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *exception: object) -> None:
        for participant in self._participants:
            _close(participant.process, participant.stream_process)
        self._participants.clear()

    def start(self, contenders: Sequence[Contender], with_streams: bool) -> list[dict[str, Any]]:
        """Start the contenders, each with a second process for streams if ``with_streams``.

        A contender that fails to start takes no part.

        Returns:
            A report of each contender, ready for JSON.

        Raises:
            ProcessFailed: The reference, the engine in fp32, failed to start.
        """
        return [self._start(contender, with_streams) for contender in contenders]

    def measure(self, workload: Workload) -> dict[str, Any]:
        """Check the answers of all runs on one workload, then time those that are right.

        Returns:
            The results, ready for JSON.

        Raises:
            ProcessFailed: The reference, the engine in fp32, failed to answer.
        """
        rows = workload.rows(self._config)
        reference = next(p for p in self._participants if p.contender == REFERENCE)
        expected = reference.process.answer(rows, WHOLE)
        all_runs = self._runs(workload, rows)
        runs = [run for run in all_runs if run.check(expected)]
        for run in all_runs:
            if "fault" in run.result:
                self._log(f"{workload.name}: {run.contender.name} is left out: {run.result['fault']}")
        times = run_rounds(
            runs,
            self._settings.rounds,
            self._settings.trial_rounds,
            self._peak_ops,
            ProcessFailed,
            lambda number: self._log(f"{workload.name}: round {number + 1} of {self._settings.rounds}"),
        )
        useful = workload.flops(self._config)
        engine = {
            run.precision: t for run, t in zip(runs, times, strict=True) if run.contender.peer == ENGINE
        }
        for run, mine in zip(runs, times, strict=True):
            run.result |= _figures(mine, useful, engine.get(run.precision))
        return {
            "work": workload.name,
            "threads": self._threads,
            "lengths": list(workload.lengths),
            "tokens": workload.tokens,
            "useful_gflop": useful / 1e9,
            "entrants": [run.result for run in all_runs],
        }

    def _peak_ops(self, precision: str) -> float | None:
        time.sleep(SETTLE_SECONDS)
        return peak_ops(precision, self._threads)

    def _start(self, contender: Contender, with_streams: bool) -> dict[str, Any]:
        name = contender.name
        report: dict[str, Any] = {"contender": name, "peer": contender.peer, "precision": contender.precision}
        self._log(f"{name}: starting on {self._threads} threads")
        process = stream_process = None
        try:
            process = Process(self._preparer.prepared_job(contender, self._threads))
            report |= process.load()
            if with_streams and self._threads > 1 and PEERS[contender.peer].streams:
                job = self._preparer.prepared_job(contender, self._threads, self._threads)
                stream_process = Process(job)
                stream_process.load()
        except ProcessFailed as error:
            _close(process, stream_process)
            if contender == REFERENCE:
                raise
            self._log(f"{name}: not available: {error}")
            return report | {"unavailable": str(error)}
        self._participants.append(_Participant(contender, process, stream_process))
        if name in self._preparer.seconds:
            report["prepare_s"] = self._preparer.seconds[name]
        return report

    def _runs(self, workload: Workload, rows: Rows) -> list[_ContenderRun]:
        runs = []
        for participant in self._participants:
            contender = participant.contender
            if contender.only and workload.name not in contender.only:
                continue
            packs, brief = PEERS[contender.peer].packs, self._settings.brief
            choices = [(one, participant.process) for one in batchings(workload, packs, brief)]
            if workload.is_mixed and participant.stream_process is not None:
                choices.append((streams(self._threads), participant.stream_process))
                # Streams seldom lose to rows one by one, each on all threads.
                choices = [choice for choice in choices if not brief or choice[0] != ONE_BY_ONE]
            for batching, process in choices:
                runs.append(_ContenderRun(contender, process, batching, rows, self._settings.turn_seconds))
        return runs


def _figures(mine: Times, useful: float, engine: Times | None) -> dict[str, Any]:
    """Seconds by round; from them ms, operations per second, share of the peak, and time / engine's time."""
    peaks = {number: value / 1e9 for number, value in mine.peak_ops.items()}
    figures: dict[str, Any] = {"seconds": mine.seconds, "ceiling_gflops": peaks}
    if mine.fault is not None:
        figures["fault"] = mine.fault
    if mine.seconds:
        figures["ms"] = spread([1e3 * s for s in mine.seconds.values()]).to_dict()
        figures["gflops"] = spread([useful / s / 1e9 for s in mine.seconds.values()]).to_dict()
    shares = [useful / mine.seconds[number] / peak for number, peak in mine.peak_ops.items()]
    if shares:
        figures["share"] = spread(shares).to_dict()
    ratio = ratios(engine.seconds, mine.seconds) if engine is not None else None
    if ratio is not None:
        figures["ratio"] = ratio.to_dict()
    return figures


def _close(*processes: Process | None) -> None:
    for process in processes:
        if process is not None:
            process.close()
