"""Starts a worker process for one stage, follows its events and turns every way it can end into one line."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ExportError
from .report import Report


def run_stage(
    request: Mapping[str, Any], folder: Path, report: Report, flags: Mapping[str, str], name: str
) -> dict[str, Any]:
    """Run the worker stage ``name`` in ``folder`` with ``flags`` in its environment and return its result.

    The worker never outlives this call. Raises ExportError or OSError with what went wrong in it.
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
        return _follow(process, request, report, log, name)
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # a request that was never read
                    stream.close()
        log.unlink(missing_ok=True)


def _follow(
    process: subprocess.Popen[bytes], request: Mapping[str, Any], report: Report, log: Path, name: str
) -> dict[str, Any]:
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass  # it ended before it read: its exit status says why
    for line in process.stdout:
        message = json.loads(line)
        match message.pop("event"):
            case "stage":
                report.start(message["name"], message["text"])
            case "progress":
                report.progress(message["done"], message["total"])
            case "done":
                report.done(message["detail"], message.get("bytes"))
            case "error" if message.get("errno"):
                raise OSError(message["errno"], os.strerror(message["errno"]), message["file"] or None)
            case "error":
                raise ExportError(message["message"])
            case "result":
                report.peak(name, message["peak_bytes"])
                result: dict[str, Any] = message["value"]
                return result
    raise ExportError(f"the {name} process {_ending(process.wait(), log)}")


def _ending(status: int, log: Path) -> str:
    if status == -signal.SIGKILL:
        return "was killed, most likely for want of memory; free some and try again"
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
