"""The servers under test, and how one is started and stopped; each runs alone, during its own turns."""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..machine import resident_bytes
from ..process import ProcessFailed

_START_SECONDS, _STOP_SECONDS = 120.0, 60.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server to test: its name in the tables, the module that starts it, and further arguments."""

    name: str
    module: str
    arguments: tuple[str, ...] = ()


ENGINE = Server("albert-serve", "albert_runtime.serve")
_PEER = "albert_bench.load.peer_server"
SERVERS = (
    ENGINE,
    Server("ONNX Runtime, one by one", _PEER, ("--rows", "1")),
    Server("ONNX Runtime, padded batches of 8", _PEER, ("--rows", "8")),
    Server("ONNX Runtime, padded batches of 32", _PEER, ("--rows", "32")),
)


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that is ready: its HTTP port, its process and its log."""

    port: int
    process: "subprocess.Popen[str]"
    log: Path

    def resident_bytes(self) -> int:
        """Memory that the process occupies now."""
        return resident_bytes(self.process.pid)


@contextmanager
def running(server: Server, artifact: Path) -> Iterator[RunningServer]:
    """Start a server on loopback, and stop it at the end; ProcessFailed if it does not get ready."""
    command = [sys.executable, "-m", server.module, str(artifact), "--port", "0", "--no-grpc"]
    with tempfile.NamedTemporaryFile("r+", suffix=".log") as log:  # a full pipe would block it
        process = subprocess.Popen([*command, *server.arguments], stderr=log, text=True)
        try:
            yield RunningServer(_wait_for_port(server, process, Path(log.name)), process, Path(log.name))
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for_port(server: Server, process: "subprocess.Popen[str]", log: Path) -> int:
    until = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        events = [json.loads(line) for line in log.read_text("utf-8").splitlines() if line.startswith("{")]
        if any(event.get("event") == "ready" for event in events):
            address = next(event["http"] for event in events if event.get("event") == "listening")
            return int(address.rpartition(":")[2])
        time.sleep(0.1)
    last = log.read_text("utf-8").strip().splitlines()[-1:] or ["it printed nothing"]
    raise ProcessFailed(f"{server.name} did not get ready: {last[0][:300]}")
