"""No telemetry: no backend and no command writes outside what it was asked for, or opens a connection.

What each watch sees. Files: all that any process of a command leaves in the user's home and cache, which are
empty folders here. Python's audit events: connections and look-ups of names that Python code of the command's
own process makes, libraries included. /proc: internet sockets of all its processes, whoever opens them; it is
read every few milliseconds, so that a socket which is closed at once may be missed.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.artifact.manifest import FileRecord, Manifest
from albert_runtime.files import sha256_file

from ..conftest import write_checkpoint
from ..runtime.conftest import tokenizer_file

__all__ = ["tokenizer_file"]

TINY = Path(__file__).parents[1] / "data" / "artifacts" / "schema-1"
PATIENCE = 240.0
TURNED_OFF = ("ORT_DISABLE_TELEMETRY", "NNCF_CI", "NNCF_DEV", "CI")
TABLES = ("tcp", "tcp6", "udp", "udp6")

LISTEN = """
import os, sys
def hear(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        where = arguments[1]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        where = arguments[0]
    else:
        return
    if not isinstance(where, (str, bytes)) or event.startswith("socket.get"):  # else a socket of this machine
        with open(os.environ["HEARD"], "a") as file:
            print(event, where, file=file)
sys.addaudithook(hear)
"""

ANSWER = """
import time
from albert_runtime import Predictor
predictor = Predictor({path!r}, backend={backend!r})
assert predictor.backend == {backend!r}
predictor.run([[2, 5, 6, 3]])
predictor.submit([[2, 5, 6, 3]]).result()
time.sleep(0.5)
"""

COMMAND = """
import sys
from {module} import main
code = main({arguments!r})
assert code in (0, None), code
"""


@dataclass
class Watched:
    """What a process and its children did."""

    files: list[str]
    heard: list[str]
    sockets: set[str]
    output: str


@pytest.fixture
def watch(tmp_path):
    """watch(code, until=None) -> Watched; the process is told to end once ``until(output)`` holds."""

    def run(code, until=None):
        home, heard = tmp_path / "home", tmp_path / "heard"
        home.mkdir()
        kept = {name: value for name, value in os.environ.items() if name not in TURNED_OFF}
        folders = {"HOME": home, "XDG_CACHE_HOME": home / "cache", "XDG_CONFIG_HOME": home / "config"}
        elsewhere = {"HEARD": heard, "MPLCONFIGDIR": tmp_path / "fonts"}  # matplotlib's own cache
        with (tmp_path / "output").open("w+") as output:
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", LISTEN + code],
                env={**kept, **{name: str(path) for name, path in {**folders, **elsewhere}.items()}},
                cwd=tmp_path,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            sockets, end = set(), time.monotonic() + PATIENCE
            while process.poll() is None:
                sockets |= internet_sockets(process.pid)
                if until is not None and until(tmp_path / "output"):
                    process.terminate()
                    until = None
                if time.monotonic() > end:
                    process.kill()
                time.sleep(0.004)
            output.seek(0)
            text = output.read()
        assert process.returncode == 0, text
        files = [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]
        return Watched(files, heard.read_text().split("\n")[:-1] if heard.exists() else [], sockets, text)

    return run


def internet_sockets(process):
    """Protocol, local and remote address of each internet socket of a process and its descendants."""
    found, pids = set(), [process]
    for pid in pids:
        folder = Path(f"/proc/{pid}")
        try:
            for task in (folder / "task").iterdir():
                pids += [int(child) for child in (task / "children").read_text().split()]
            links = {str(link.readlink()) for link in (folder / "fd").iterdir()}
            for table in TABLES if any(link.startswith("socket:") for link in links) else ():
                for line in (folder / "net" / table).read_text().splitlines()[1:]:
                    fields = line.split()
                    if f"socket:[{fields[9]}]" in links:
                        found.add(f"{table} {fields[1]} {fields[2]}")
        except (OSError, ValueError):  # it has ended meanwhile
            continue
    return found


def assert_silent(watched):
    assert (watched.files, watched.heard, watched.sockets) == ([], [], set()), watched.output


def test_the_watch_sees(watch):
    watched = watch("""
import ctypes, socket, subprocess, time
from pathlib import Path
Path.home().joinpath("id").write_text("me")
native = ctypes.CDLL(None)
assert native.connect(native.socket(2, 2, 0), bytes([2, 0, 0, 53, 127, 0, 0, 1] + [0] * 8), 16) == 0
python = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
python.connect(("127.0.0.2", 54))
time.sleep(0.2)
""")
    assert watched.files == ["id"]
    assert watched.heard == ["socket.connect ('127.0.0.2', 54)"]
    assert {line.split()[2] for line in watched.sockets} == {"0100007F:0035", "0200007F:0036"}


@pytest.mark.parametrize("backend", ["native", "onnxruntime", "paddle"])
def test_backends(watch, backend):
    pytest.importorskip(backend if backend != "native" else "numpy")
    assert_silent(watch(ANSWER.format(path=str(TINY), backend=backend)))


def test_gpu_backend_in_the_interpreter(watch, monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert_silent(watch(ANSWER.format(path=str(TINY), backend="gpu")))


def test_export(watch, tmp_path):
    """Which verifies with every backend that is installed."""
    pytest.importorskip("paddle")
    config = json.loads((TINY / "tiny.manifest.json").read_text())["config"]
    write_checkpoint(tmp_path / "small", AlbertConfig.from_dict(config))
    arguments = [str(tmp_path / "small"), "--random-weights", "-o", str(tmp_path / "out"), "--int8"]
    assert_silent(watch(COMMAND.format(module="albert_export.cli", arguments=arguments)))
    manifest = json.loads((tmp_path / "out" / "small-int8.manifest.json").read_text())
    assert {"native", "onnxruntime"} <= manifest["verification"]["backends"].keys()


def test_predict(watch, tmp_path, tokenizer_file):
    pytest.importorskip("onnxruntime")
    artifact = Path(shutil.copytree(TINY, tmp_path / "tiny"))
    shutil.copy(tokenizer_file, artifact / "tiny.tokenizer.json")
    manifest = Manifest.read(artifact / "tiny.manifest.json")
    size, digest = tokenizer_file.stat().st_size, sha256_file(tokenizer_file)
    files = {**manifest.files, "tokenizer": FileRecord("tiny.tokenizer.json", size, digest)}
    replace(manifest, files=files).write(artifact / "tiny.manifest.json")
    (tmp_path / "lines").write_text("a b c\n")
    arguments = [str(artifact), str(tmp_path / "lines"), "--backend", "onnxruntime"]
    watched = watch(COMMAND.format(module="albert_runtime.cli.predict", arguments=arguments))
    assert_silent(watched)
    assert len(json.loads(watched.output)["embedding"]) == manifest.config.hidden_size


def test_serve(watch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("uvicorn")
    arguments = [str(TINY), "--backend", "onnxruntime", "--port", "0", "--grpc-port", "0"]
    started = []

    def ready(output):
        if '"ready"' in output.read_text():
            started.append(time.monotonic())
        return bool(started) and time.monotonic() > started[0] + 0.5

    watched = watch(COMMAND.format(module="albert_runtime.serve.cli", arguments=arguments), ready)
    assert watched.files == []
    assert set(watched.heard) <= {"socket.getaddrinfo 127.0.0.1"}
    # It listens on two ports of this machine, and nothing else.
    assert {line.split()[2].split(":")[1] for line in watched.sockets} <= {"0000"}, watched.sockets
    assert len({line.split()[1] for line in watched.sockets}) == 2, watched.sockets


@pytest.mark.parametrize("peer", ["onnxruntime", "openvino"])
def test_bench(watch, tmp_path, peer):
    pytest.importorskip(peer)
    pytest.importorskip("nncf" if peer == "openvino" else peer)
    options = ["--quick", "--only", peer, "--precision", "int8", "--turn", "0", "--rounds", "1"]
    arguments = [str(TINY / "tiny.manifest.json"), *options, "--threads", "1", "-o", str(tmp_path / "out")]
    watched = watch(COMMAND.format(module="albert_bench.cli", arguments=arguments))
    assert_silent(watched)
    assert peer in (tmp_path / "out" / "bench.md").read_text()
