"""The first seconds of the process: it can be stopped at any moment, and says what it is waiting for."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .server import COMMAND, PATIENCE, until

SLOW_LOAD = """
import pathlib, sys, time
from albert_runtime.serve import models
from albert_runtime.serve.__main__ import main
load = models.Entry.load
def slow(entry, limits, *, verify):
    while entry.name == "sentiment" and not pathlib.Path({gate!r}).exists():
        time.sleep(0.01)
    return load(entry, limits, verify=verify)
models.Entry.load = slow
sys.exit(main())
"""
# Whole milliseconds from the start of the process: its imports, the start of the server, its loading.
MOMENTS = (0, 10, 50, 100, 200, 400, 800, 1600)


@pytest.fixture
def slow(start, artifacts, tmp_path):
    """(a server that is loading "sentiment", the file that it waits for)."""
    gate = tmp_path / "gate"
    code = SLOW_LOAD.format(gate=str(gate))
    return start([artifacts["embedder"], artifacts["sentiment"]], code=code, ready=False), gate


def test_it_listens_while_it_loads(slow):
    server, gate = slow
    told = "this server is loading sentiment (1 of 2 models ready)"
    ready = until(
        lambda: (answer := server.http.get("/v2/health/ready")).json() == {"error": told} and answer,
        "the second load",
    )
    assert ready.status_code == 503 and ready.headers["retry-after"]
    assert server.http.get("/v2/health/live").status_code == 200
    for path, body in (
        ("/v2/models/embedder/infer", {"inputs": []}),
        ("/predict", {"text": "a"}),
        ("/v1/embeddings", {"input": "a"}),
        ("/v2/repository/models/embedder/load", {}),
    ):
        answer = server.http.post(path, json=body)
        assert answer.status_code == 503 and answer.headers["retry-after"] and told in answer.text
    states = server.http.post("/v2/repository/index").json()
    assert {one["name"]: one["state"] for one in states} == {"embedder": "READY", "sentiment": "LOADING"}
    assert server.http.get("/").status_code == server.http.get("/metrics").status_code == 200
    gate.touch()
    server.wait_for("ready")
    assert server.http.get("/v2/health/ready").status_code == 200
    assert server.http.post("/predict", json={"model": "sentiment", "text": "a"}).status_code == 200
    assert server.stop() == 0


def test_grpc_while_it_loads(slow):
    client_to = pytest.importorskip("tritonclient.grpc")
    from tritonclient.utils import InferenceServerException

    server, gate = slow
    given = client_to.InferInput("text", [1], "BYTES")
    with client_to.InferenceServerClient(server.grpc) as client:
        assert client.is_server_live() and not client.is_server_ready()
        assert not client.is_model_ready("sentiment")
        with pytest.raises(InferenceServerException, match="is loading") as caught:
            client.infer("sentiment", [given])
        assert "UNAVAILABLE" in caught.value.status()
        gate.touch()
        until(client.is_server_ready, "its readiness")
        assert client.is_model_ready("sentiment")
    assert server.stop() == 0


def test_sigterm_while_it_loads(slow):
    server, _ = slow
    server.process.send_signal(signal.SIGTERM)
    assert server.join() == 0


def test_a_model_that_cannot_be_loaded_ends_it(artifacts, tmp_path):
    """After it has begun to listen: only the load reads the weights."""
    damaged = shutil.copytree(artifacts["embedder"].parent, tmp_path / "damaged")
    weights = next(damaged.glob("*.pdiparams"))
    weights.write_bytes(bytes(byte ^ 1 for byte in weights.read_bytes()))
    command = [
        *COMMAND,
        artifacts["sentiment"],
        damaged,
        "--backend",
        "native",
        "--port",
        "0",
        "--grpc-port",
        "0",
    ]
    environment = {**os.environ, "ALBERT_PACKED_CACHE": "0"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment
    )
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert line.startswith("albert-serve: error: ") and "is corrupted" in line
    assert '"error"' not in done.stderr


def serve(artifact, *prefix):
    ports = ("--port", "0", "--grpc-port", "0")
    command = [*prefix, *COMMAND, str(artifact), "--backend", "native", "--threads", "1", *ports]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def handles(pid, number):
    """Whether the process has a handler for the signal."""
    try:
        status = Path(f"/proc/{pid}/status").read_text("ascii")
    except (FileNotFoundError, ProcessLookupError):
        return False
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.mark.parametrize("moment", MOMENTS)
def test_it_stops_at_any_moment(artifacts, moment):
    """Until Python has begun, a process ends as any other does."""
    process = serve(artifacts["embedder"])
    time.sleep(moment / 1000)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) in (0, -signal.SIGTERM)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", [0, 100])
def test_stopped_while_it_starts_it_has_answered_everything(artifacts, moment, number):
    process = serve(artifacts["embedder"])
    until(lambda: handles(process.pid, signal.SIGTERM), "the handler")
    time.sleep(moment / 1000)
    process.send_signal(number)
    assert process.wait(PATIENCE) == 0


@pytest.fixture
def in_a_container(artifacts):
    """Starts the server as the first process of a PID namespace; (what to wait for, its pid outside)."""
    prefix = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
    tried = (
        subprocess.run([*prefix, "true"], capture_output=True, check=False)
        if shutil.which("unshare")
        else None
    )
    if tried is None or tried.returncode:
        pytest.skip("no PID namespaces here")
    started = []

    def begin():
        outer = serve(artifacts["embedder"], *prefix)
        started.append(outer)
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        inner = until(lambda: children.read_text("ascii").split(), "the first process")
        return outer, int(inner[0])

    yield begin
    for outer in started:
        outer.kill()
        outer.wait()


@pytest.mark.parametrize("moment", MOMENTS)
def test_it_stops_as_the_first_process_of_a_container(in_a_container, moment):
    """Which the kernel protects from SIGTERM until it has a handler."""
    outer, inner = in_a_container()
    until(lambda: handles(inner, signal.SIGTERM), "the handler")
    time.sleep(moment / 1000)
    began = time.monotonic()
    subprocess.run(["kill", "-TERM", str(inner)], check=True)
    assert outer.wait(PATIENCE) == 0
    assert time.monotonic() - began < 10


def test_the_handlers_come_first():
    """Before numpy and every other package that is not Python's own: nothing slow comes before them."""
    code = """
import signal, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top != "albert_runtime" and not handled():
            print(name)
def handled():
    return callable(signal.getsignal(signal.SIGTERM)) and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
sys.meta_path.insert(0, Watch())
from albert_runtime.serve.__main__ import main
assert not handled() and "argparse" not in sys.modules
sys.argv[1:] = ["--help"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: albert-serve"), done.stdout
