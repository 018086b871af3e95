"""Long texts cost what is computed of them, and hold up nobody else's."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from .server import PATIENCE

HUGE = "word " * 700_000  # 3.5 MB


@pytest.fixture(scope="module")
def own(start, artifacts):
    """A server of its own, whose memory nobody else changes."""
    names = ("embedder", "sentiment", "entities", "reader")
    server = start([artifacts[name] for name in names])
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        client.server = server
        assert client.post("/predict", json={"model": "sentiment", "text": "a " * 2500}).status_code == 422
        yield client


@pytest.mark.parametrize(
    ("body", "needle"),
    [
        ({"model": "sentiment", "texts": [HUGE, HUGE]}, "row 0 is at least"),
        ({"model": "sentiment", "texts": [[HUGE, HUGE]]}, "row 0 is at least"),
        ({"model": "entities", "text": HUGE}, "more than 65536 tokens in all"),
        ({"model": "reader", "question": "who", "context": HUGE}, "more than 65536 tokens in all"),
        ({"model": "reader", "question": "who", "context": "a" + " " * 2_000_000}, "characters in a row"),
        ({"model": "entities", "text": "word".ljust(300_000) * 12}, "3600000 characters in all"),
        ({"model": "sentiment", "text": "a" * 3_500_000}, "3500000 characters in a row"),
        ({"model": "sentiment", "text": "a" * 3_500_000, "truncate": True}, "characters in a row"),
    ],
)
def test_what_cannot_fit_is_refused_before_it_is_tokenized(own, body, needle):
    """These took up to 200 bytes of memory for each character, and seconds."""
    before = own.server.memory()
    answer = own.post("/predict", json=body)
    assert answer.status_code == 422 and needle in answer.json()["error"], answer.text
    assert own.server.memory() - before < 220 * 2**20


def test_they_can_be_truncated(own):
    before = own.server.memory()
    answer = own.post("/predict", json={"model": "sentiment", "texts": [HUGE, HUGE], "truncate": True})
    assert answer.status_code == 200, answer.text
    assert own.server.memory() - before < 100 * 2**20


def test_metrics_tell_of_them(own):
    """Their number and their time, apart from the queue and the model."""
    seconds = own.server.metric("albert_long_text_seconds_count")
    assert own.server.metric("albert_long_texts") == 0
    body = {"model": "sentiment", "text": HUGE, "truncate": True}
    assert own.post("/predict", json=body).status_code == 200
    assert own.server.metric("albert_long_text_seconds_count") > seconds
    assert own.server.metric("albert_long_texts") == 0


def test_many_at_once_do_not_hold_up_short_ones(make_app, monkeypatch):
    """With all threads for long texts busy until a short text is answered."""
    import threading

    from albert_runtime.text.cutting import Cutter

    app = make_app("embedder")
    go = threading.Event()
    count = Cutter.count

    def slow(self, text, at_most):
        assert go.wait(PATIENCE)
        return count(self, text, at_most)

    monkeypatch.setattr(Cutter, "count", slow)

    async def ask():
        import asyncio

        body = json.dumps({"text": HUGE})
        long = [asyncio.ensure_future(app.client.post("/predict", content=body)) for _ in range(8)]
        while app.service.metrics.exposition().count(b"albert_long_texts 8.0") == 0:
            await asyncio.sleep(0.01)
        short = await app.client.post("/predict", json={"text": "who"})
        go.set()
        return short, await asyncio.gather(*long)

    short, long = app.run(ask())
    assert short.status_code == 200
    assert all(answer.status_code == 422 for answer in long)


def test_too_many_at_once_are_refused(make_app, monkeypatch):
    from albert_runtime.text.long_texts import LONG_TEXTS

    monkeypatch.setattr(LONG_TEXTS, "max_waiting", 0)
    app = make_app("embedder")
    answer = app.send("POST", "/predict", json={"text": HUGE})
    assert answer.status_code == 429 and "long texts" in answer.json()["error"]
    assert answer.headers["retry-after"]
    assert app.send("POST", "/predict", json={"text": "who"}).status_code == 200


def test_as_many_as_there_are_callers(own):
    bodies = [{"model": "sentiment", "text": HUGE, "truncate": True}] * 6
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda body: own.post("/predict", json=body), bodies))
    assert {answer.status_code for answer in answers} == {200}
