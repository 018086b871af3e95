"""The servers that take part, each a process of its own while its turns last."""

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

from ..process import ChildFailed

_START_SECONDS, _STOP_SECONDS = 120.0, 60.0


@dataclass(frozen=True, slots=True)
class Contender:
    """A server: its name in the tables, the module that starts it and the arguments after the artifact."""

    name: str
    module: str
    arguments: tuple[str, ...] = ()


ENGINE = Contender("albert-serve", "albert_runtime.serve.cli")
_PEER = "albert_bench.load.peer_server"
CONTENDERS = (
    ENGINE,
    Contender("ONNX Runtime, one by one", _PEER, ("--rows", "1")),
    Contender("ONNX Runtime, padded batches of 8", _PEER, ("--rows", "8")),
    Contender("ONNX Runtime, padded batches of 32", _PEER, ("--rows", "32")),
)


@dataclass(frozen=True, slots=True)
class Running:
    """A server that is ready: its HTTP port and its process."""

    port: int
    process: "subprocess.Popen[str]"

    def resident_bytes(self) -> int:
        """Memory of the process now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text("utf-8")
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) * 1024


@contextmanager
def running(contender: Contender, artifact: Path) -> Iterator[Running]:
    """Start a server on loopback and stop it; ChildFailed if it does not get ready."""
    command = [sys.executable, "-m", contender.module, str(artifact), "--port", "0", "--no-grpc"]
    with tempfile.NamedTemporaryFile("r+", suffix=".log") as log:  # a pipe that nobody reads would stop it
        process = subprocess.Popen([*command, *contender.arguments], stderr=log, text=True)
        try:
            yield Running(_port(contender, process, Path(log.name)), process)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _port(contender: Contender, process: "subprocess.Popen[str]", log: Path) -> int:
    until = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        events = [json.loads(line) for line in log.read_text("utf-8").splitlines() if line.startswith("{")]
        if any(event.get("event") == "ready" for event in events):
            address = next(event["http"] for event in events if event.get("event") == "listening")
            return int(address.rpartition(":")[2])
        time.sleep(0.1)
    last = log.read_text("utf-8").strip().splitlines()[-1:] or ["no word"]
    raise ChildFailed(f"{contender.name} did not get ready: {last[0][:300]}")
