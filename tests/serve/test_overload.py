"""Too many requests, slow ones and clients that go: each costs what it must and harms nobody else.

A pass of these servers waits for 16 tokens: requests of fewer stay in the queue until one of 16 comes.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest

from .conftest import assert_equal
from .server import INFER, PATIENCE, asked, connected, raw, until

grpc = pytest.importorskip("grpc")

FEW, ENOUGH = np.array([[5, 6]]), np.full((1, 16), 7)
HELD = ("--max-queue-delay", 60, "--max-batch-tokens", 16)


@pytest.fixture(scope="module")
def held(start, artifacts):
    return start([artifacts["embedder"]], *HELD, "--max-queue", 4, "--max-concurrency", 6)


@pytest.fixture(autouse=True)
def whole(held, predictors):
    """After each test nothing is left behind, and an answer is right."""
    yield
    # The server hears of closed connections when it gets to it.
    until(lambda: held.metric("albert_in_flight_requests") == 0, "the end of all requests")
    right(held, predictors)
    until(lambda: held.metric("albert_in_flight_requests") == 0, "the end of the last")
    assert held.metric("albert_queue_depth", "embedder") == 0
    assert not [line for line in held.lines() if line["level"] == "error"]


def right(server, predictors, ids=ENOUGH):
    answer = server.http.post(INFER, json=asked(ids))
    assert answer.status_code == 200, answer.text
    outputs = {
        item["name"]: np.float32(item["data"]).reshape(item["shape"]) for item in answer.json()["outputs"]
    }
    assert_equal(outputs, predictors["embedder"].run({"input_ids": ids}))


def waiting(server, count):
    until(lambda: server.metric("albert_queue_depth", "embedder") == count, f"{count} requests in the queue")


def in_flight(server, count):
    until(lambda: server.metric("albert_in_flight_requests") == count, f"{count} requests in the server")


def ended(server, outcome, api="v2", model="embedder"):
    return server.metric("albert_requests_total", api, model, outcome)


def message(ids):
    from albert_runtime.serve.grpc.messages import MESSAGES

    made = MESSAGES["ModelInferRequest"](model_name="embedder")
    item = made.inputs.add(name="input_ids", datatype="INT64", shape=ids.shape)
    item.contents.int64_contents.extend(ids.ravel().tolist())
    return made


@contextmanager
def method(server):
    from albert_runtime.serve.grpc.messages import MESSAGES, SERVICE

    with grpc.insecure_channel(server.grpc) as channel:
        yield channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=lambda made: made.SerializeToString(),
            response_deserializer=MESSAGES["ModelInferResponse"].FromString,
        )


def check_refused(server, needle):
    """By both protocols, and health and metrics still answer."""
    answer = server.http.post(INFER, json=asked(FEW))
    assert answer.status_code == 429 and needle in answer.json()["error"]
    assert int(answer.headers["retry-after"]) > 0
    with method(server) as infer, pytest.raises(grpc.RpcError) as caught:
        infer(message(FEW), timeout=PATIENCE)
    assert caught.value.code().name == "RESOURCE_EXHAUSTED" and needle in caught.value.details()
    assert server.http.get("/v2/health/live").status_code == 200
    assert server.http.get("/v2/health/ready").status_code == 200


def test_a_full_queue(held):
    refused = ended(held, "overloaded")
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(connected(held)).sendall(b"".join(raw(FEW)))
        waiting(held, 4)
        check_refused(held, "4 requests are waiting")
    assert ended(held, "overloaded") == refused + 1
    until(lambda: held.metric("albert_in_flight_requests") == 0, "the end of the clients that went")


def test_too_many_at_once(held):
    with ExitStack() as stack:
        for _ in range(6):
            head, body = raw(FEW)
            stack.enter_context(connected(held)).sendall(head + body[:10])
        in_flight(held, 6)
        check_refused(held, "already handling 6 requests")


@pytest.mark.alone  # seen there within the 0.1 s that it has
def test_a_deadline_in_the_queue(held):
    expired = ended(held, "expired")
    with ThreadPoolExecutor(2) as pool:
        late = pool.submit(held.http.post, INFER, json=asked(FEW, timeout=100_000))
        waiting(held, 1)
        with method(held) as infer:
            with pytest.raises(grpc.RpcError) as caught:
                infer(message(FEW), timeout=0.3)  # longer than the time of the one that waits
            assert caught.value.code().name == "DEADLINE_EXCEEDED"
        answer = late.result(PATIENCE)  # though no pass has begun since
        waiting(held, 0)
    assert answer.status_code == 503 and "not answered within 0.1 s" in answer.json()["error"]
    assert ended(held, "expired") == expired + 1


def test_clients_that_go_as_their_deadline_passes(held):
    """The server answers in the same moment: no error of its own, which the fixture looks for in the log."""

    def ask(index):
        with method(held) as infer:
            for milliseconds in range(20, 60):
                with pytest.raises(grpc.RpcError) as caught:
                    infer(message(FEW), timeout=milliseconds / 1000)
                assert caught.value.code().name == "DEADLINE_EXCEEDED"

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(ask, range(3)))


def test_a_deadline_of_the_tasks_answers(make_app):
    options = {"max_queue_delay": 60.0, "max_batch_tokens": 16}
    app = make_app("embedder", options=options, timeout=0.2)
    for path, body in (("/predict", {"text": "who"}), ("/v1/embeddings", {"input": "who"})):
        answer = app.send("POST", path, json=body)
        assert answer.status_code == 503 and answer.headers["retry-after"], answer.text
        assert "0.2 s" in answer.text


def test_connections_broken_within_a_body(held):
    cancelled = ended(held, "cancelled")
    head, body = raw(FEW)
    for size in (0, 1, 30):
        with connected(held) as broken:
            broken.sendall(head + body[:size])
            in_flight(held, 1)
        in_flight(held, 0)
    assert ended(held, "cancelled") == cancelled + 3


def test_clients_that_go_are_not_computed(held):
    """Their requests leave the queue, and others' beside them are answered."""
    rows, cancelled = held.metric("albert_rows_total", "embedder"), ended(held, "cancelled")
    with ThreadPoolExecutor(1) as pool, method(held) as infer:
        stays = pool.submit(held.http.post, INFER, json=asked(FEW))
        with connected(held) as going:
            going.sendall(b"".join(raw(FEW)))
            going_too = infer.future(message(FEW), timeout=PATIENCE)
            waiting(held, 3)
        going_too.cancel()
        in_flight(held, 1)
        assert ended(held, "cancelled") == cancelled + 1
        assert ended(held, "cancelled", "grpc") >= 1
        held.http.post(INFER, json=asked(ENOUGH))
        assert stays.result(PATIENCE).status_code == 200
    assert held.metric("albert_rows_total", "embedder") == rows + 2


def test_clients_of_predict_that_go(held):
    body = json.dumps({"text": "who"}).encode()
    head = f"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    with connected(held) as going:
        going.sendall(head + body)
        waiting(held, 1)
    in_flight(held, 0)
    assert ended(held, "cancelled", "predict") == 1


def test_many_clients_that_go_at_any_moment(start, artifacts, predictors):
    """Nothing is left of them."""
    server = start([artifacts["embedder"]])
    head, body = raw(np.full((20, 60), 5))
    request = head + body

    def go(index):
        with connected(server) as going:
            going.sendall(request[: 50 + 97 * index % (2 * len(request))])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(go, range(200)))
    in_flight(server, 0)
    until(lambda: server.metric("albert_queue_depth", "embedder") == 0, "an empty queue")
    right(server, predictors, FEW)
    assert not [line for line in server.lines() if line["level"] == "error"]


def test_requests_one_after_another_on_one_connection(held):
    """Pipelined: answered in their order."""
    with connected(held) as many:
        many.sendall(
            b"".join(raw(ENOUGH)) * 3
            + b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        )
        with many.makefile("rb") as file:
            text = file.read()
    assert text.count(b"HTTP/1.1 200 OK") == 4
