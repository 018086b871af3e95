"""albert-serve as a process of its own: started, asked, read and stopped."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

COMMAND = (sys.executable, "-m", "albert_runtime.serve")
INFER = "/v2/models/embedder/infer"
PATIENCE = 60.0  # seconds after which a test is stuck, however busy the machine


def asked(ids: NDArray[np.int64], **parameters: Any) -> dict[str, Any]:
    """A request of the Open Inference Protocol, as JSON."""
    data = ids.ravel().tolist()
    item = {"name": "input_ids", "shape": list(ids.shape), "datatype": "INT64", "data": data}
    return {"inputs": [item], "parameters": parameters}


def raw(ids: NDArray[np.int64]) -> tuple[bytes, bytes]:
    """(head, body) of such a request."""
    body = json.dumps(asked(ids)).encode()
    return f"POST {INFER} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode(), body


@contextmanager
def connected(server: "Server", receive_buffer: int | None = None) -> Iterator[socket.socket]:
    """A connection, which is closed with the block."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.socket() as made:
        if receive_buffer is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        made.settimeout(PATIENCE)
        made.connect((host, int(port)))
        yield made


def status_of(connection: socket.socket) -> int:
    """The status of the answer on a connection; 0 if it is closed without one."""
    with connection.makefile("rb") as file:
        line = file.readline()
    return int(line.split()[1]) if line else 0


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until the condition holds; what it returned."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.01)
    return found


class Server:
    """The process. ``url`` and ``grpc`` are its addresses, ``http`` is a client for any thread."""

    def __init__(
        self,
        log: Path,
        artifacts: Sequence[Path],
        *flags: object,
        environment: Mapping[str, str] | None = None,
        ready: bool = True,
        code: str | None = None,
    ) -> None:
        self.log_path, self.url, self.grpc = log, "", ""
        ports = () if "--port" in flags else ("--port", 0, "--grpc-port", 0)
        start = COMMAND if code is None else (sys.executable, "-c", code)
        command = [*start, *artifacts, "--backend", "native", "--threads", 1, *ports, *flags]
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                stderr=file,
                stdout=file,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(environment or {})},
            )
        try:
            listening = self.wait_for("listening")
            self.url, self.grpc = f"http://{listening['http']}", listening["grpc"]
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
            self.http = httpx.Client(base_url=self.url, timeout=PATIENCE, limits=limits)
            if ready:
                self.wait_for("ready")
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def lines(self) -> list[dict[str, Any]]:
        """The log; an error if a whole line is not JSON."""
        return [json.loads(line) for line in self.log_path.read_text("utf-8").split("\n")[:-1]]

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of an event."""
        return [line for line in self.lines() if line["event"] == name]

    def wait_for(self, event: str) -> dict[str, Any]:
        """The first line of an event, as soon as it is there."""

        def found() -> list[dict[str, Any]]:
            lines = self.events(event)
            assert lines or self.process.poll() is None, self.log_path.read_text("utf-8")
            return lines

        return until(found, event)[0]  # type: ignore[no-any-return]

    def metrics(self) -> dict[tuple[str, ...], float]:
        """(sample's name, its labels' values in the order of their names) -> value."""
        return dict(samples(self.http.get("/metrics").text))

    def metric(self, name: str, *labels: str) -> float:
        """One value, 0 if it was never counted."""
        return self.metrics().get((name, *labels), 0.0)

    def memory(self) -> int:
        """Resident bytes."""
        fields = Path(f"/proc/{self.process.pid}/statm").read_text("ascii").split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.join()

    def join(self) -> int:
        """Wait for its end; its exit code."""
        if self.url:
            self.http.close()
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def samples(text: str) -> Iterator[tuple[tuple[str, ...], float]]:
    """Prometheus' text; an error if it is none."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = (sample.labels[key] for key in sorted(sample.labels))
            yield (sample.name, *labels), sample.value
