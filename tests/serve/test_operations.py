"""The process among others: starting and stopping."""

import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from albert_runtime.scheduler import Scheduler
from albert_runtime.serve.limits import ServerLimits

from .conftest import assert_equal
from .server import COMMAND, INFER, PATIENCE, asked, connected, raw, until

# A pass waits for 16 tokens, or these seconds: long enough for a signal to come while requests are in flight.
HELD = ("--max-queue-delay", 2, "--max-batch-tokens", 16)


def right(answer, predictors, batch):
    assert answer.status_code == 200, answer.text
    outputs = {
        item["name"]: np.float32(item["data"]).reshape(item["shape"]) for item in answer.json()["outputs"]
    }
    assert_equal(outputs, predictors["embedder"].run(batch))


def run(*words, **options):
    """A command that is expected to end by itself."""
    return subprocess.run(
        [*COMMAND, *map(str, words), "--backend", "native"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        **options,
    )


# Starting


def test_an_artifact_replaced_while_it_is_served(start, artifacts, predictors, tmp_path):
    """The first text and the first ids come after it: old weights never meet the new tokenizer."""
    folder, new = tmp_path / "served", artifacts["embedder 2"].parent
    shutil.copytree(artifacts["embedder"].parent, folder)
    server = start([folder])
    for file in new.iterdir():
        shutil.copy(file, tmp_path / "part")
        if file.name == "embedder.tokenizer.json":
            (tmp_path / "part").write_bytes(file.read_bytes().replace(b"anna", b"anne"))
        (tmp_path / "part").replace(folder / file.name)
    texts = ["Anna Smith", "who lives"]
    asked_texts = {"inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": texts}]}
    right(server.http.post(INFER, json=asked_texts), predictors, texts)
    right(server.http.post(INFER, json=asked(np.array([[5, 6]]))), predictors, {"input_ids": [[5, 6]]})
    server.stop()


def test_not_ready_before_the_models_are_loaded(make_app):
    app = make_app("embedder", "sentiment", load=False)
    for path in ("/v2/health/ready", "/v2/models/embedder/ready"):
        told = app.send("GET", path)
        assert told.status_code == 503 and told.headers["retry-after"]
        assert "loading" in told.json()["error"] and "embedder" in told.json()["error"]
    states = app.send("POST", "/v2/repository/index").json()
    assert [(one["name"], one["state"]) for one in states] == [
        ("embedder", "LOADING"),
        ("sentiment", "LOADING"),
    ]
    assert app.send("GET", "/v2/health/live").status_code == 200
    assert app.send("GET", "/status.json").json()["ready"] is False
    assert "not ready" in app.send("GET", "/").text
    answer = app.send("POST", INFER, json=asked(np.array([[5]])))
    assert answer.status_code == 503 and "loading embedder (0 of 2 models ready)" in answer.json()["error"]
    assert answer.headers["retry-after"]
    app.run(app.service.loader.start())
    assert app.send("GET", "/v2/health/ready").status_code == 200
    assert app.send("POST", INFER, json=asked(np.array([[5]]))).status_code == 200


@pytest.mark.parametrize("name", ["embedder", "sentiment", "entities", "reader", "filler", "chooser"])
def test_the_warm_up_runs_the_model(make_app, name, monkeypatch):
    app = make_app(name, load=False)
    passes = []
    notify = Scheduler._notify_observers
    monkeypatch.setattr(Scheduler, "_notify_observers", lambda *given: (passes.append(1), notify(*given)))
    app.run(app.service.loader.start())
    assert len(passes) == 1


def test_it_listens_on_loopback_only(server):
    """Who wants others to reach it says so."""
    assert server.url.startswith("http://127.0.0.1:") and server.grpc.startswith("127.0.0.1:")
    listening = set()
    for table in ("tcp", "tcp6"):
        with open(f"/proc/{server.process.pid}/net/{table}", encoding="ascii") as file:  # noqa: PTH123
            rows = [line.split() for line in list(file)[1:]]
        listening |= {row[1] for row in rows if row[3] == "0A"}
    ports = [int(address.rpartition(":")[2]) for address in (server.url, server.grpc)]
    found = sorted(address for address in listening if int(address.split(":")[1], 16) in ports)
    # gRPC's is 127.0.0.1 as IPv6 writes it.
    assert {address[-13:] for address in found} == {f"0100007F:{port:04X}" for port in ports}


def test_without_grpc(start, artifacts):
    server = start([artifacts["embedder"]], "--no-grpc")
    assert server.grpc is None
    assert server.http.get("/v2/health/ready").status_code == 200


@pytest.mark.parametrize("flag", ["--port", "--grpc-port"])
def test_a_port_that_is_taken(artifacts, flag):
    other = "--grpc-port" if flag == "--port" else "--port"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(artifacts["embedder"], flag, port, other, 0)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert str(port) in done.stderr and f"choose another {flag}" in done.stderr


def test_a_host_that_is_none(artifacts):
    done = run(artifacts["embedder"], "--host", "nowhere.invalid", "--port", 0, "--grpc-port", 0)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "nowhere.invalid" in done.stderr


def test_ipv6(start, artifacts):
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("this machine has no IPv6")
    server = start([artifacts["embedder"]], "--host", "::1")
    assert server.url.startswith("http://[::1]:") and server.grpc.startswith("[::1]:")
    assert server.http.get("/v2/health/ready").status_code == 200


def test_artifacts_that_are_none(tmp_path, artifacts):
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in artifacts["embedder"].parent.iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    weights = next(damaged.glob("*.pdiparams"))
    weights.write_bytes(weights.read_bytes()[:-9])
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "bare.pdmodel").write_bytes(b"")
    for path in (tmp_path / "nothing", damaged, bare):
        done = run(artifacts["embedder"], path, "--port", 0, "--grpc-port", 0)
        assert done.returncode == 1, done.stderr
        assert done.stderr.startswith("albert-serve: error: ") and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["x", "--port", "70000"],
        ["x", "--port", "a"],
        ["x", "--timeout", "nan"],
        ["x", "--timeout", "0"],
        ["x", "--max-queue", "0"],
    ],
)
def test_bad_usage(words):
    done = run(*words)
    assert done.returncode == 2 and "usage: albert-serve" in done.stderr


@pytest.mark.parametrize(
    "package",
    [
        "starlette",
        "uvicorn",
        "msgspec",
        "grpc",
        "prometheus_client",
        "httptools",
        "uvloop",
        "google.protobuf",
    ],
)
def test_a_package_that_is_missing(artifacts, package):
    """As in an environment without the extra."""
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {package!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from albert_runtime.serve.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, artifacts["embedder"]],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert package in done.stderr and "pip install 'albert-runtime[serve]'" in done.stderr


def test_help_needs_no_extra(tmp_path):
    for package in ("starlette", "uvicorn", "msgspec", "grpc", "prometheus_client"):
        (tmp_path / f"{package}.py").write_text("raise ImportError")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from albert_runtime.serve.cli import main; "
    done = subprocess.run(
        [sys.executable, "-c", code + "main(['--help'])"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "--max-concurrency" in done.stdout


# Stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_accepted_is_answered(start, artifacts, predictors, number):
    server = start([artifacts["embedder"]], *HELD)
    asks = [np.array([[5 + index, 6]]) for index in range(5)]
    channel_to = pytest.importorskip("grpc").insecure_channel
    grpc_client = pytest.importorskip("tritonclient.grpc")
    given = grpc_client.InferInput("input_ids", [1, 2], "INT64")
    given.set_data_from_numpy(asks[0])
    with ThreadPoolExecutor(8) as pool, grpc_client.InferenceServerClient(server.grpc) as client:
        answers = [pool.submit(server.http.post, INFER, json=asked(ids)) for ids in asks]
        texts = pool.submit(server.http.post, "/predict", json={"text": "who"})
        over_grpc = pool.submit(client.infer, "embedder", [given])
        until(lambda: server.metric("albert_in_flight_requests") == 7, "all in flight")
        server.process.send_signal(number)
        server.wait_for("draining")
        late = server.http.get("/v2/health/ready")
        assert late.status_code == 503
        with channel_to(server.grpc) as channel:
            assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"") == b"\x08\x02"  # NOT_SERVING
        late = server.http.post(INFER, json=asked(asks[0]))
        assert late.status_code == 503 and "shutting down" in late.json()["error"]
        for answer, ids in zip(answers, asks, strict=True):
            right(answer.result(PATIENCE), predictors, {"input_ids": ids})
        assert texts.result(PATIENCE).status_code == 200
        expected = predictors["embedder"].run({"input_ids": asks[0]})
        assert np.array_equal(over_grpc.result(PATIENCE).as_numpy("pooled_output"), expected["pooled_output"])
    assert server.join() == 0
    assert server.events("stopped")[-1]["all_answered"] is True


def test_an_answer_that_is_being_read_is_sent_to_its_end(start, artifacts):
    server = start([artifacts["embedder"]])
    head, body = raw(np.full((1024, 64), 7))
    with connected(server, receive_buffer=4096) as slow:
        slow.sendall(head + body)
        until(lambda: server.metric("albert_rows_total", "embedder") >= 1024, "the computation")
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("draining")
        time.sleep(0.2)
        with slow.makefile("rb") as file:
            text = file.read()
    headers, _, content = text.partition(b"\r\n\r\n")
    assert headers.startswith(b"HTTP/1.1 200") and f"content-length: {len(content)}".encode() in headers
    assert server.join() == 0


def test_what_takes_too_long_is_given_up(start, artifacts):
    """After the time for it the exit code says so, and clients are told."""
    server = start(
        [artifacts["embedder"]], "--max-queue-delay", 60, "--max-batch-tokens", 16, "--drain-timeout", 0.5
    )
    with ThreadPoolExecutor(3) as pool:
        answers = [
            pool.submit(server.http.post, path, json=body)
            for path, body in ((INFER, asked(np.array([[5]]))), ("/predict", {"text": "who"}))
        ]
        until(lambda: server.metric("albert_queue_depth", "embedder") == 2, "all in the queue")
        server.process.send_signal(signal.SIGTERM)
        for answer in answers:
            told = answer.result(PATIENCE)
            assert told.status_code == 503 and "shutting down" in told.json()["error"]
    assert server.join() == 1
    assert server.events("stopped")[-1]["all_answered"] is False
    assert not [line for line in server.lines() if line["level"] == "error"]


def test_models_that_are_closed_are_unavailable(make_app):
    """When the time to drain is up, whatever it was that a request was at."""
    app = make_app("embedder")
    app.service.models.close(cancel=True)
    for path, body in ((INFER, asked(np.array([[5]]))), ("/predict", {"text": "who"})):
        answer = app.send("POST", path, json=body)
        assert answer.status_code == 503 and answer.headers["retry-after"], answer.text


def test_idle_connections_do_not_hold_it_up(start, artifacts):
    server = start([artifacts["embedder"]])
    with connected(server), httpx.Client(base_url=server.url) as client:
        assert client.get("/v2/health/live").status_code == 200
        assert server.stop() == 0


def test_idle_connections_are_kept_for_a_while(start, artifacts):
    assert ServerLimits().keep_alive > 60  # for which proxies keep theirs
    server = start([artifacts["embedder"]], "--no-grpc", "--keep-alive", 2)
    with connected(server) as connection:
        for _ in range(2):
            connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: here\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            time.sleep(0.5)
        assert connection.recv(65536) == b""


def test_killed_it_can_start_again_at_once(start, artifacts, predictors, tmp_path):
    first = start([artifacts["embedder"]])
    ports = [address.rpartition(":")[2] for address in (first.url, first.grpc)]
    with httpx.Client(base_url=first.url, timeout=PATIENCE) as client:
        right(client.post(INFER, json=asked(np.array([[5]]))), predictors, {"input_ids": [[5]]})
        first.process.kill()
        assert first.join() == -signal.SIGKILL
    second = start([artifacts["embedder"]], "--port", ports[0], "--grpc-port", ports[1])
    assert second.url == first.url and second.grpc == first.grpc
    answer = second.http.post(INFER, json=asked(np.array([[5]])))
    right(answer, predictors, {"input_ids": [[5]]})


def test_two_signals_are_as_one(start, artifacts):
    server = start([artifacts["embedder"]], *HELD)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.http.post, INFER, json=asked(np.array([[5]])))
        until(lambda: server.metric("albert_in_flight_requests") == 1, "one in flight")
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("draining")
        server.process.send_signal(signal.SIGTERM)
        assert answer.result(PATIENCE).status_code == 200
    assert server.join() == 0


def test_options_and_artifacts_in_any_order(start, artifacts):
    server = start([artifacts["embedder"], "--max-queue", "4", artifacts["sentiment"]], "--no-grpc")
    names = [item["id"] for item in server.http.get("/v1/models").json()["data"]]
    assert names == ["embedder", "sentiment"]
