"""albert-predict as a process among others: pipes, closed descriptors, locales."""

import json
import os
import subprocess
import sys
import threading

import pytest

COMMAND = [sys.executable, "-m", "albert_runtime.cli.predict"]


@pytest.fixture
def classifier(make_task):
    return make_task("sequence-classification", labels=("bad", "good"))


def spawn(artifact, **options):
    return subprocess.Popen(
        [*COMMAND, str(artifact), "--threads", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def test_answers_come_as_soon_as_the_input_pauses(classifier):
    with spawn(classifier) as process:
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        for text in (b"Anna", b"who"):
            process.stdin.write(text + b"\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["label"] in ("bad", "good")
        process.stdin.close()
        assert process.wait() == 0
        watchdog.cancel()


def test_a_closed_pipe_is_no_error(classifier):
    with spawn(classifier) as process:
        process.stdin.write(b"who\n" * 4)
        process.stdin.flush()
        process.stdout.readline()
        process.stdout.close()
        try:
            process.stdin.write(b"who\n" * 5000)
            process.stdin.close()
        except BrokenPipeError:
            pass
        assert process.wait(timeout=60) == 1
        assert process.stderr.read().decode() == ""


def test_a_full_disk_is_told(classifier):
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            [*COMMAND, str(classifier), "-"], input=b"who\n", stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 2
    assert done.stderr == b"albert-predict: error: standard output: No space left on device\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-"])
def test_closed_descriptors(classifier, closed):
    command = f"{sys.executable} -m albert_runtime.cli.predict {classifier} {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, input=b"", check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(b"albert-predict: error: ")
    assert done.stderr.count(b"\n") == 1


def test_ascii_locales_get_utf8(make_task):
    path = make_task("token-classification", labels=("X",))
    environment = {**os.environ, "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    with spawn(path, env=environment) as process:
        out, err = process.communicate("\u00e9t\u00e9\n".encode())
    assert err == b""
    assert "\u00e9t\u00e9" in out.decode()
