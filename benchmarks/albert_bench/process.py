"""A process of its own for each contender, so that its idle threads do not spin during another's turn.

``Process`` is the parent's side, ``run_worker`` the child's. Whatever goes wrong in a library (an exception,
a crash, a hang) reaches the parent as a ProcessFailed of one line; after a crash it quotes the end of what
the library printed.
"""

import os
import signal
import sys
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

from .batching import Batching, Runner, split_rows
from .machine import peak_resident_bytes, resident_bytes
from .peers.base import HIDDEN, Answer, Job, build, import_library, prepare
from .workload import Rows

# Compiling a graph or calibrating int8 takes minutes for a large model; anything longer is a hang.
TIMEOUT_SECONDS = 1800.0
_LOG_TAIL = 300


class ProcessFailed(Exception):
    """A process raised, died or hung; the message is one line."""


class Process:
    """The process of one contender. Any method may raise ProcessFailed, after which the process is gone."""

    def __init__(self, job: Job, timeout: float = TIMEOUT_SECONDS) -> None:
        """Start the process; it loads nothing yet."""
        context = get_context("spawn")
        self._pipe, worker_pipe = context.Pipe()
        self._log = job.folder / f"log-{job.threads}-{job.streams}.txt"
        self._timeout = timeout
        self._fault: str | None = None
        self._process = context.Process(target=run_worker, args=(worker_pipe, job, self._log), daemon=True)
        self._process.start()
        worker_pipe.close()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid or 0

    def prepare(self) -> float:
        """Write the files that the contender needs; the seconds it took."""
        return float(self._ask("prepare"))

    def load(self) -> dict[str, Any]:
        """Import the library and load the model: {"import_s", "load_s", "library_bytes", "notes"}."""
        return dict(self._ask("load"))

    def answer(self, rows: Rows, batching: Batching) -> list[Answer]:
        """The answer of each row, without padding."""
        return list(self._ask("answer", rows, batching))

    def turn(self, rows: Rows, batching: Batching, seconds: float) -> float:
        """Run the rows again and again for at least ``seconds``; the median seconds of a run."""
        return float(self._ask("turn", rows, batching, seconds))

    def footprint(self) -> dict[str, int]:
        """{"resident_bytes", "peak_bytes"}: memory gained since the process started, and its peak."""
        return dict(self._ask("footprint"))

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _ask(self, request: str, *arguments: object) -> Any:
        if self._fault is None:
            try:
                self._pipe.send((request, arguments))
                if self._pipe.poll(self._timeout):
                    ok, value = self._pipe.recv()
                    if ok:
                        return value
                    self._fault = value
                else:
                    self._fault = f"did not answer within {self._timeout:g} s"
            except (EOFError, OSError):
                self._process.join()
                self._fault = self._cause_of_death()
            self.close()
        raise ProcessFailed(self._fault)

    def _cause_of_death(self) -> str:
        code = self._process.exitcode or 0
        how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        printed = self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""
        tail = " ".join(printed.split())[-_LOG_TAIL:]
        return f"its process {how}" + (f" ({tail})" if tail else "")


def run_worker(pipe: Connection, job: Job, log: Path) -> None:
    """Answer the parent's requests until the parent closes the pipe."""
    _redirect(log)
    _limit_threads(1 if job.streams else job.threads)
    worker = _Worker(job)
    while True:
        try:
            request, arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((True, getattr(worker, request)(*arguments)))
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            pipe.send((False, text[:_LOG_TAIL]))
            return


class _Worker:
    """What the child process can be asked to do."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._resident = resident_bytes()
        self._runner: Runner | None = None

    def prepare(self) -> float:
        start = time.perf_counter()
        prepare(self._job)
        return time.perf_counter() - start

    def load(self) -> dict[str, Any]:
        start = time.perf_counter()
        module = import_library(self._job)
        imported, library = time.perf_counter(), resident_bytes() - self._resident
        self._runner = Runner(build(self._job))
        notes = getattr(module, "notes", None)
        return {
            "import_s": imported - start,
            "load_s": time.perf_counter() - imported,
            "library_bytes": library,
            "notes": notes(self._job) if notes else {},
        }

    def answer(self, rows: Rows, batching: Batching) -> list[Answer]:
        return split_rows(self._model.run(rows, batching), [len(row) for row in rows], HIDDEN)

    def turn(self, rows: Rows, batching: Batching, seconds: float) -> float:
        times: list[float] = []
        while sum(times) < seconds or not times:
            start = time.perf_counter()
            self._model.run(rows, batching)
            times.append(time.perf_counter() - start)
        return median(times)

    def footprint(self) -> dict[str, int]:
        return {"resident_bytes": resident_bytes() - self._resident, "peak_bytes": peak_resident_bytes()}

    @property
    def _model(self) -> Runner:
        if self._runner is None:
            raise RuntimeError("the model is not loaded yet")
        return self._runner


def _redirect(log: Path) -> None:
    """Send what libraries print, such as progress bars, to a file."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def _limit_threads(threads: int) -> None:
    """Tell OpenMP and oneDNN, which read the environment when they are loaded."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
