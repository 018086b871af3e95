"""Exports that are stopped from outside, and disks that are full: nothing that looks complete is left."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from albert_export.cli import main

# The limit on file sizes is set in the process itself: after a fork of this one, with threads, it is unsafe.
COMMAND = """
import resource, signal, sys
from albert_export.cli import main
# A shell starts its background jobs with SIGINT ignored, and a command then rightly ignores it too.
signal.signal(signal.SIGINT, signal.default_int_handler)
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.exit(main())
"""


def start(golden, target, limit=resource.RLIM_INFINITY):
    arguments = [str(limit), str(golden / "model-gelu"), "-o", str(target), "--quiet"]
    return subprocess.Popen([sys.executable, "-c", COMMAND, *arguments], stderr=subprocess.PIPE)


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError("it did not happen in time")


def workers(target):
    """Ids of the processes that run in a staging folder of ``target``."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").readlink().is_relative_to(target):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def visible(target):
    return [path.name for path in target.iterdir() if not path.name.startswith(".")]


def stop(process):
    process.kill()
    process.wait()
    process.stderr.close()


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGHUP, 130)]
)
def test_interrupted(golden, target, number, code):
    process = start(golden, target)
    try:
        wait_for(lambda: workers(target))
        process.send_signal(number)
        assert process.wait(30) == code
        assert process.stderr.read().decode() == "albert-export: error: interrupted; nothing was written\n"
    finally:
        stop(process)
    assert list(target.iterdir()) == []
    wait_for(lambda: not workers(target))


def test_killed_while_verifying(golden, target):
    """SIGKILL late: all files are staged, none is outside; the worker ends; the next export sweeps."""
    process = start(golden, target)
    try:
        wait_for(lambda: list(target.glob(".albert-export-*/model-gelu.manifest.json")))
    finally:
        stop(process)
    assert visible(target) == []
    assert list(target.glob(".albert-export-*/model-gelu.pdmodel"))
    wait_for(lambda: not workers(target))
    assert main([str(golden / "model-gelu"), "-o", str(target), "--quiet"]) == 0
    assert len(visible(target)) == len(list(target.iterdir())) == 4


def test_worker_killed(golden, target):
    process = start(golden, target)
    try:
        os.kill(wait_for(lambda: workers(target))[0], signal.SIGKILL)
        assert process.wait(30) == 1
        message = process.stderr.read().decode()
    finally:
        stop(process)
    assert "process was killed, most likely because memory ran out" in message
    assert len(message.splitlines()) == 1
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("limit", [20_000, 600_000])
def test_disk_full(golden, target, limit):
    """No file may grow past ``limit``, which is what a full disk or quota does to a writer."""
    process = start(golden, target, limit)
    try:
        assert process.wait(60) == 1
        message = process.stderr.read().decode()
    finally:
        stop(process)
    assert len(message.splitlines()) == 1 and message.startswith("albert-export: error: ")
    assert list(target.iterdir()) == []
