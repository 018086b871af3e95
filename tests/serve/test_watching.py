"""What a running server tells those who watch it: its log, its metrics, its memory."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from albert_runtime.scheduler.scheduler import BatchStats

from .server import INFER, PATIENCE, asked, connected, samples, until

SECRET = "Marker-7f3a"


def test_the_log_is_json_and_holds_no_text(start, artifacts):
    server = start([artifacts[name] for name in ("embedder", "sentiment", "filler")])
    item = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [SECRET]}
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        post = client.post
        statuses = [
            post("/predict", json={"model": "sentiment", "text": SECRET}),
            post("/predict", json={"model": "filler", "text": SECRET}),
            post("/predict", json={"model": SECRET, "text": SECRET}),
            post("/predict", json={"model": "sentiment", "text": f"{SECRET} " * 80}),
            post("/predict", content=f'{{"text": "{SECRET}'),
            post("/v1/embeddings", json={"model": "embedder", "input": SECRET, "user": SECRET}),
            post(INFER, json={"inputs": [item], "id": SECRET}),
            post(INFER, json={"inputs": [item], "outputs": [{"name": SECRET}]}),
            post(INFER, json={"inputs": [{**item, "name": SECRET}]}),
            post(f"/v2/models/{SECRET}/infer", json={"inputs": [item]}),
            post(f"/{SECRET}?text={SECRET}", headers={"user-agent": SECRET}),
            post("/", data={"model": "sentiment", "text": SECRET}),
        ]
    found = [answer.status_code for answer in statuses]
    assert found == [200, 422, 404, 422, 400, 200, 200, 422, 422, 404, 404, 200]
    with connected(server) as connection:
        connection.sendall(f"{SECRET} no http\r\n\r\n".encode())
        connection.recv(1000)
    assert server.stop() == 0
    text = server.log_path.read_text("utf-8")
    assert SECRET not in text and SECRET.lower() not in text.lower()
    for line in server.lines():
        assert line["time"] and line["level"] in ("debug", "info", "warning", "error") and line["event"]
    requests = server.events("request")
    assert len(requests) == 11 and {line["api"] for line in requests} >= {
        "v2",
        "predict",
        "embeddings",
        "page",
    }
    assert all(line["ms"] >= 0 and line["outcome"] and line["status"] for line in requests)


def test_an_error_within_is_told_without_its_message(make_app, monkeypatch, caplog):
    """A library may put into it what a user sent."""
    from albert_runtime.serve.logs import JsonFormatter

    app = make_app("embedder")
    scheduler = next(iter(app.service.models)).predictor.scheduler

    def broken(batch, outputs, score_tokens):
        raise RuntimeError(SECRET)

    monkeypatch.setattr(scheduler, "run", broken)
    answer = app.send("POST", INFER, json=asked(np.array([[5]])))
    assert answer.status_code == 500 and SECRET not in answer.text
    assert app.send("POST", "/v1/embeddings", json={"input": "a"}).json()["error"]["type"] == "server_error"
    lines = [JsonFormatter().format(record) for record in caplog.records if record.name == "albert_serve"]
    told = [json.loads(line) for line in lines if "traceback" in line]
    assert told and SECRET not in "".join(lines)
    assert told[0]["error"] == "RuntimeError" and "in broken" in told[0]["traceback"]


def test_the_metrics(make_app):
    app = make_app("embedder", "sentiment")

    def metrics():
        answer = app.send("GET", "/metrics")
        assert answer.headers["content-type"].startswith("text/plain")
        return dict(samples(answer.text))

    before = metrics()
    assert before["albert_queue_depth", "embedder"] == 0 and before[("albert_in_flight_requests",)] >= 0
    ids = np.array([[5, 6, 7, 8], [5, 6, 0, 0]])
    assert app.send("POST", INFER, json=asked(ids)).status_code == 200
    assert app.send("POST", INFER, json=asked(np.array([[50]]))).status_code == 422
    assert app.send("POST", "/predict", json={"model": "sentiment", "text": "who"}).status_code == 200
    after = metrics()

    def more(*key):
        return after.get(key, 0.0) - before.get(key, 0.0)

    assert more("albert_requests_total", "v2", "embedder", "ok") == 1
    assert more("albert_requests_total", "v2", "embedder", "invalid") == 1
    assert more("albert_requests_total", "predict", "sentiment", "ok") == 1
    assert more("albert_rows_total", "embedder") == 2
    assert more("albert_padding_avoided_tokens_total", "embedder") == 2
    assert more("albert_batch_tokens_sum", "embedder") == 6
    assert more("albert_compute_seconds_count", "embedder") == 1
    assert more("albert_queue_seconds_count", "embedder") == 1
    assert more("albert_request_seconds_count", "v2", "embedder") == 1


def test_padding_that_was_computed_was_not_avoided(make_app):
    """On ONNX Runtime and Paddle passes are padded."""
    app = make_app("embedder")
    count = next(iter(app.service.models)).predictor.scheduler.observers[0]
    count(BatchStats(rows=2, tokens=6, padded_tokens=8, padded=True, waited=(0.0,), seconds=0.1, requests=1))
    assert 'albert_padding_avoided_tokens_total{model="embedder"} 0.0' in app.send("GET", "/metrics").text


def test_labels_stay_bounded(make_app):
    app = make_app("embedder")

    def series():
        families = text_string_to_metric_families(app.send("GET", "/metrics").text)
        return sum(len(family.samples) for family in families)

    def strange(index):
        app.send("POST", f"/v2/models/m{index}/infer", json=asked(np.array([[5]])))
        app.send("POST", "/predict", json={"model": f"m{index}", "text": "a"})
        app.send("GET", f"/p{index}")

    strange(0)
    before = series()
    for index in range(1, 60):
        strange(index)
    assert series() == before


def test_two_versions_are_counted_apart(client, server):
    for version in ("1", "2", "2"):
        client.post(f"/v2/models/embedder/versions/{version}/infer", json=asked(np.array([[5]])))
    assert server.metric("albert_requests_total", "v2", "embedder", "ok") == 1
    assert server.metric("albert_requests_total", "v2", "embedder/2", "ok") == 2


def test_memory_stays_flat(start, artifacts):
    """Over thousands of requests that succeed, fail and are broken off."""
    server = start([artifacts["embedder"]])

    def request(path, body):
        return f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body

    good = request(INFER, json.dumps(asked(np.full((4, 32), 7))).encode())
    bad = request(INFER, json.dumps(asked(np.array([[50]]))).encode())
    mixed = [good, bad, request("/predict", b"{"), request("/predict", b'{"text": "who"}')]
    last = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"

    def load(rounds):
        for _ in range(rounds):
            with connected(server) as connection:
                connection.sendall(b"".join(mixed * 5) + last)
                with connection.makefile("rb") as file:
                    text = file.read()
            assert [text.count(b"HTTP/1.1 %d" % status) for status in (200, 422, 400)] == [11, 5, 5]
            for size in (9, len(good) - 9, len(good)):
                with connected(server) as going:
                    going.sendall(good[:size])

    def round_of_load():
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(load, [12] * 4))

    round_of_load()
    before = server.memory()
    round_of_load()
    round_of_load()
    assert server.memory() - before < 12 * 2**20
    until(lambda: server.metric("albert_in_flight_requests") == 0, "the end of all requests")
    assert server.metric("albert_queue_depth", "embedder") == 0
    assert server.metric("albert_requests_total", "v2", "embedder", "ok") >= 3 * 4 * 12 * 5
