"""A process of its own for every contender, so that no thread pool spins in another's turn.

The parent's side is ``Child``; ``serve`` runs in the child. Whatever a library does there (an exception, a
crash, silence) reaches the parent as a ChildFailed of one line, with the end of what the library printed.
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

from . import memory
from .batching import Form, Runner, by_row
from .peers.base import HIDDEN, Answer, Job, build, import_library, prepare
from .workload import Rows

# Compiling a graph or calibrating int8 for a large model takes minutes; longer than this is a hang.
PATIENCE_SECONDS = 1800.0
_LOG_TAIL = 300


class ChildFailed(Exception):
    """A child process raised, died or hung; the message is one line."""


class Child:
    """The process of one contender; every method may raise ChildFailed, and the process is then gone."""

    def __init__(self, job: Job, patience: float = PATIENCE_SECONDS) -> None:
        """Start the process; it loads nothing before it is asked to."""
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._log = job.folder / f"log-{job.threads}-{job.streams}.txt"
        self._patience = patience
        self._fault: str | None = None
        self._process = context.Process(target=serve, args=(theirs, job, self._log), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid or 0

    def prepare(self) -> float:
        """Write what the contender needs made once; seconds it took."""
        return float(self._ask("prepare"))

    def load(self) -> dict[str, Any]:
        """Import the library and build the model: {"import_s", "load_s", "library_bytes", "notes"}."""
        return dict(self._ask("load"))

    def answer(self, rows: Rows, form: Form) -> list[Answer]:
        """The answer of each row by itself."""
        return list(self._ask("answer", rows, form))

    def turn(self, rows: Rows, form: Form, seconds: float) -> float:
        """Median seconds of a run, repeated for at least ``seconds``."""
        return float(self._ask("turn", rows, form, seconds))

    def footprint(self) -> dict[str, int]:
        """{"resident_bytes", "peak_bytes"}: grown since before the library's import, and the most ever."""
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
                if self._pipe.poll(self._patience):
                    good, value = self._pipe.recv()
                    if good:
                        return value
                    self._fault = value
                else:
                    self._fault = f"did not answer within {self._patience:g} s"
            except (EOFError, OSError):
                self._process.join()
                self._fault = self._how_it_died()
            self.close()
        raise ChildFailed(self._fault)

    def _how_it_died(self) -> str:
        code = self._process.exitcode or 0
        how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        printed = self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""
        tail = " ".join(printed.split())[-_LOG_TAIL:]
        return f"its process {how}" + (f" ({tail})" if tail else "")


def serve(pipe: Connection, job: Job, log: Path) -> None:
    """Answer the parent's requests until it ends."""
    _redirect(log)
    _limit_threads(1 if job.streams else job.threads)
    work = _Work(job)
    while True:
        try:
            request, arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((True, getattr(work, request)(*arguments)))
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            pipe.send((False, text[:_LOG_TAIL]))
            return


class _Work:
    """What the child does on request."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._resident = memory.resident()
        self._runner: Runner | None = None

    def prepare(self) -> float:
        start = time.perf_counter()
        prepare(self._job)
        return time.perf_counter() - start

    def load(self) -> dict[str, Any]:
        start = time.perf_counter()
        module = import_library(self._job)
        imported, library = time.perf_counter(), memory.resident() - self._resident
        self._runner = Runner(build(self._job))
        notes = getattr(module, "notes", None)
        return {
            "import_s": imported - start,
            "load_s": time.perf_counter() - imported,
            "library_bytes": library,
            "notes": notes(self._job) if notes else {},
        }

    def answer(self, rows: Rows, form: Form) -> list[Answer]:
        return by_row(self._model.run(rows, form), [len(row) for row in rows], HIDDEN)

    def turn(self, rows: Rows, form: Form, seconds: float) -> float:
        times: list[float] = []
        while sum(times) < seconds or not times:
            start = time.perf_counter()
            self._model.run(rows, form)
            times.append(time.perf_counter() - start)
        return median(times)

    def footprint(self) -> dict[str, int]:
        return {"resident_bytes": memory.resident() - self._resident, "peak_bytes": memory.peak()}

    @property
    def _model(self) -> Runner:
        if self._runner is None:
            raise RuntimeError("the model is not loaded yet")
        return self._runner


def _redirect(log: Path) -> None:
    """What libraries print goes to a file: their progress bars are not ours."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def _limit_threads(threads: int) -> None:
    """For OpenMP and oneDNN, which ask the environment when their library is loaded."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
