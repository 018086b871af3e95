"""Starts a worker process for one job, shows its events, and turns every way it can end into one line."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from ..errors import ExportError
from .messages import (
    Failed,
    Finished,
    Job,
    ProtocolError,
    Result,
    StageDone,
    StageProgress,
    StageStarted,
    from_line,
    to_line,
)
from .report import Report

_R = TypeVar("_R", bound=Result)

_ENDING = 10.0  # seconds


def run_job(
    job: Job, result: type[_R], folder: Path, report: Report, flags: Mapping[str, str], name: str
) -> _R:
    """Run a job in a worker process of its own, which never outlives this call.

    Args:
        job: What to do.
        result: The type of its result.
        folder: The worker's working directory.
        report: Shows the worker's events.
        flags: Variables added to the worker's environment.
        name: What the process is called in messages.

    Raises:
        ExportError or OSError: What went wrong in the worker.
    """
    log = folder / ".worker.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "albert_export.pipeline.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=folder,
            env=_environment(flags),
            # Ctrl-C reaches this process alone, which then ends the worker.
            start_new_session=True,
        )
    try:
        finished = _follow(process, job, report, log, name)
        # It takes away what Paddle leaves in the user's cache folder until then.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_ENDING)
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # a job that was never read
                    stream.close()
        log.unlink(missing_ok=True)
    report.peak(name, finished.peak_bytes)
    if not isinstance(finished.result, result):
        raise ExportError(f"internal: the {name} process sent {type(finished.result).__name__}")
    return finished.result


def _follow(process: subprocess.Popen[bytes], job: Job, report: Report, log: Path, name: str) -> Finished:
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(to_line(job))
        process.stdin.flush()
    except BrokenPipeError:
        pass  # it ended before it read: its exit status says why
    for line in process.stdout:
        try:
            message = from_line(line)
        except ProtocolError as error:
            raise ExportError(f"internal: the {name} process sent no message: {error}") from None
        match message:
            case StageStarted():
                report.start(message.stage, message.text)
            case StageProgress():
                report.progress(message.done, message.total)
            case StageDone():
                report.done(message.detail, message.size)
            case Failed(errno=int(number)):
                raise OSError(number, os.strerror(number), message.file)
            case Failed():
                raise ExportError(message.message)
            case Finished():
                return message
    raise ExportError(f"the {name} process {_ending(process.wait(), log)}")


def _ending(status: int, log: Path) -> str:
    if status == -signal.SIGKILL:
        return "was killed, most likely because memory ran out; free some and try again"
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}; {_last_line(log)}"
    return f"failed: {_last_line(log)}"


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "it printed nothing")[:400]


def _environment(flags: Mapping[str, str]) -> dict[str, str]:
    # The worker runs in the staging folder, so relative entries of the path must be made absolute.
    path = [str(Path(entry).absolute()) for entry in sys.path if entry]
    return {**os.environ, **flags, "PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}
