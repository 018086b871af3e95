"""New versions of models take over while requests are answered, and broken ones do not."""

import asyncio
import itertools
import os
import shutil
import signal
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from albert_runtime import Predictor

from .server import INFER, PATIENCE, asked, until

IDS = np.array([[5, 6, 7], [8, 9, 10]])
LOAD, UNLOAD = (f"/v2/repository/models/embedder/{verb}" for verb in ("load", "unload"))
OLD, NEW = "embedder", "embedder 2"


@pytest.fixture
def served(artifacts, tmp_path):
    """A folder with a copy of the artifact "embedder"."""
    return shutil.copytree(artifacts[OLD].parent, tmp_path / "served")


def replace(served, source):
    """As an export does: by renaming, the manifest last."""
    for file in sorted(source.parent.iterdir(), key=lambda file: file.name.endswith(".manifest.json")):
        part = served.parent / "part"
        shutil.copy(file, part)
        part.replace(served / file.name)


def corrupt(served):
    """A weight file of the right size with another content, which only its sha256 tells."""
    weights = next(served.glob("*.pdiparams"))
    part = served.parent / "part"
    part.write_bytes(bytes(byte ^ 1 for byte in weights.read_bytes()))
    part.replace(weights)


def outputs_of(answer):
    assert answer.status_code == 200, answer.text
    return {
        item["name"]: np.float32(item["data"]).reshape(item["shape"]) for item in answer.json()["outputs"]
    }


def version_of(answer, predictors):
    """Whose bits all outputs of the answer are, and nobody else's."""
    outputs = outputs_of(answer)
    fits = [
        name
        for name in (OLD, NEW)
        if all(
            np.array_equal(outputs[key], values)
            for key, values in predictors[name].run({"input_ids": IDS}).items()
        )
    ]
    assert len(fits) == 1
    return fits[0]


@pytest.fixture
def app(make_app, served, artifacts, monkeypatch):
    monkeypatch.setitem(artifacts, "served", served)
    return make_app("served", "sentiment", allow_load=True)


def ask(app):
    return app.send("POST", INFER, json=asked(IDS))


def loads(app, label, outcome):
    text = app.send("GET", "/metrics").text
    wanted = f'albert_model_loads_total{{model="{label}",outcome="{outcome}"}} '
    return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(wanted)), 0.0)


def test_a_new_version_takes_over_on_request(app, served, artifacts, predictors):
    assert version_of(ask(app), predictors) == OLD
    replace(served, artifacts[NEW])
    assert version_of(ask(app), predictors) == OLD
    done = app.send("POST", LOAD)
    assert done.status_code == 200, done.text
    assert version_of(ask(app), predictors) == NEW
    assert loads(app, "embedder", "ok") == 2
    assert loads(app, "sentiment", "ok") == 1


@pytest.mark.parametrize("how", ["corrupted", "missing", "of another model", "without a manifest"])
def test_a_broken_version_leaves_the_old_one_serving(app, served, artifacts, predictors, how, caplog):
    if how == "corrupted":
        corrupt(served)
    elif how == "missing":
        next(served.glob("*.pdiparams")).unlink()
    else:
        for file in list(served.iterdir()):
            file.unlink()
        if how == "of another model":
            replace(served, artifacts["entities"])
    told = app.send("POST", LOAD)
    assert told.status_code == 500 and "still answers" in told.json()["error"], told.text
    assert {
        "corrupted": "is corrupted",
        "missing": "is missing",
        "of another model": "holds entities",
        "without a manifest": "holds no exported model",
    }[how] in told.json()["error"]
    assert version_of(ask(app), predictors) == OLD
    assert loads(app, "embedder", "failed") == 1 and loads(app, "embedder", "ok") == 1
    (failure,) = [record for record in caplog.records if record.getMessage() == "load failed"]
    assert failure.fields["model"] == "embedder" and failure.fields["reason"] in told.json()["error"]
    (state,) = [one for one in app.send("POST", "/v2/repository/index").json() if one["name"] == "embedder"]
    assert state["state"] == "READY" and state["reason"] == failure.fields["reason"]
    assert app.send("GET", "/v2/health/ready").status_code == 200


def test_what_a_library_raises_is_a_failed_load_too(app, predictors, monkeypatch):
    def broken(self, limits, *, verify):
        raise MemoryError("SECRET")

    monkeypatch.setattr("albert_runtime.serve.models.Entry.load", broken)
    told = app.send("POST", LOAD)
    assert told.status_code == 500 and "MemoryError" in told.text and "SECRET" not in told.text
    assert version_of(ask(app), predictors) == OLD


def test_the_new_version_is_verified_and_warm_before_it_answers(app, monkeypatch):
    seen = []
    make, submit = Predictor.__init__, Predictor.submit
    monkeypatch.setattr(
        Predictor,
        "__init__",
        lambda self, path, **options: (seen.append(options["verify"]), make(self, path, **options))[1],
    )
    monkeypatch.setattr(
        Predictor, "submit", lambda self, *given, **more: (seen.append(self), submit(self, *given, **more))[1]
    )
    entry = app.service.models.entries_of("embedder")[0]
    old = entry.model
    assert app.send("POST", LOAD).status_code == 200
    assert entry.model is not old and seen == [True, entry.model.predictor]


def test_each_model_reloads_by_itself(app, served, predictors):
    """All of them; one that is broken holds up no other."""
    corrupt(served)
    before = {model.name: model for model in app.service.models}
    app.run(app.service.loader.reload_all())
    after = {model.name: model for model in app.service.models}
    assert after["embedder"] is before["embedder"] and after["sentiment"] is not before["sentiment"]
    assert loads(app, "sentiment", "ok") == 2 and loads(app, "embedder", "failed") == 1


def test_a_request_in_progress_is_answered_by_the_version_it_began_with(app, served, artifacts, predictors):
    """And then that version's memory is given back: there is nothing left that holds it."""
    models = app.service.models
    old = weakref.ref(models.find("embedder").predictor)
    go_on, run = threading.Event(), old().scheduler.run

    def held(*batch):
        assert go_on.wait(PATIENCE)
        return run(*batch)

    old().scheduler.run = held

    async def work():
        first = asyncio.ensure_future(app.client.post(INFER, json=asked(IDS)))
        while not old().scheduler.unanswered:
            await asyncio.sleep(0.01)
        replace(served, artifacts[NEW])
        assert (await app.client.post(LOAD)).status_code == 200
        second = await app.client.post(INFER, json=asked(IDS))
        assert not first.done() and old() is not None
        go_on.set()
        return await first, second

    first, second = app.run(work())
    held = run = None
    assert [version_of(answer, predictors) for answer in (first, second)] == [OLD, NEW]
    until(lambda: old() is None, "the end of the old one")


def test_versions_share_the_bound_of_the_queue(make_app, served, artifacts, predictors, monkeypatch):
    """Else, at overload, twice as many requests as --max-queue says would wait, and twice as long."""
    monkeypatch.setitem(artifacts, "served", served)
    app = make_app("served", allow_load=True, options={"max_queue": 3})
    old = app.service.models.find("embedder").predictor.scheduler
    go_on, run = threading.Event(), old.run

    def held(*batch):
        assert go_on.wait(PATIENCE)
        return run(*batch)

    old.run = held

    async def work():
        first = [asyncio.ensure_future(app.client.post(INFER, json=asked(IDS))) for _ in range(3)]
        while old.unanswered < 3:
            await asyncio.sleep(0.01)
        assert (await app.client.post(LOAD)).status_code == 200
        for path, body in (
            (INFER, asked(IDS)),
            ("/predict", {"text": "a"}),
            ("/v1/embeddings", {"input": "a"}),
        ):
            refused = await app.client.post(path, json=body)
            assert refused.status_code == 429 and refused.headers["retry-after"], path
        go_on.set()
        answers = [await one for one in first]
        return [*answers, await app.client.post(INFER, json=asked(IDS))]

    assert [version_of(answer, predictors) for answer in app.run(work())] == [OLD] * 4


def test_texts_are_answered_by_one_version(app, served, artifacts, predictors):
    """Tokenizer and weights of the same one, at whatever step of a request the other takes over."""
    texts = ["Anna Smith", "who lives in Paris"] * 40
    expected = [predictors[name].embed(texts) for name in (OLD, NEW)]

    async def work():
        found = []

        async def ask_on():
            while len(found) < 12:
                answer = await app.client.post("/predict", json={"model": "embedder", "texts": texts})
                found.append(np.float32(answer.json()["answers"]))

        asking = [asyncio.ensure_future(ask_on()) for _ in range(2)]
        for name in (NEW, OLD, NEW):
            replace(served, artifacts[name])
            assert (await app.client.post(LOAD)).status_code == 200
        await asyncio.gather(*asking)
        return found

    for answer in app.run(work()):
        assert any(np.array_equal(answer, one) for one in expected)


def test_a_client_that_leaves_does_not_stop_a_load(app, served, artifacts, predictors):
    replace(served, artifacts[NEW])

    async def work():
        loading = asyncio.ensure_future(app.service.loader.load("embedder"))
        await asyncio.sleep(0)
        loading.cancel()
        while app.service.loader.busy:
            await asyncio.sleep(0.01)

    app.run(work())
    assert version_of(ask(app), predictors) == NEW


def test_unload(app, predictors):
    assert app.send("POST", UNLOAD).status_code == 200
    answer = ask(app)
    assert answer.status_code == 404 and "unloaded" in answer.json()["error"]
    assert app.send("GET", "/v2/models/embedder/ready").status_code == 404
    assert app.send("GET", "/v2/health/ready").status_code == 200
    states = {one["name"]: one for one in app.send("POST", "/v2/repository/index").json()}
    assert (states["embedder"]["state"], states["embedder"]["reason"]) == ("UNAVAILABLE", "unloaded")
    ready = app.send("POST", "/v2/repository/index", json={"ready": True}).json()
    assert [one["name"] for one in ready] == ["sentiment"]
    assert 'albert_proved{model="embedder"' not in app.send("GET", "/metrics").text
    app.run(app.service.loader.reload_all())  # what was unloaded stays so
    assert ask(app).status_code == 404
    assert app.send("POST", LOAD).status_code == 200
    assert version_of(ask(app), predictors) == OLD


def test_nothing_left_to_serve(make_app):
    app = make_app("embedder", allow_load=True)
    assert app.send("POST", UNLOAD).status_code == 200
    for method, path in (("GET", "/"), ("GET", "/v1/models"), ("GET", "/openapi.json"), ("GET", "/metrics")):
        assert app.send(method, path).status_code == 200, path
    assert app.send("POST", "/predict", json={"text": "a"}).status_code == 404


def test_clients_may_not_load_unless_it_is_allowed(make_app):
    app = make_app("embedder")
    for path in (LOAD, UNLOAD):
        told = app.send("POST", path)
        assert told.status_code == 403 and "--allow-load" in told.json()["error"]
    assert ask(app).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"parameters": {"config": "{}"}}, 422, "config"),
        ({"parameters": {"file:1/model.pdiparams": "AA=="}}, 422, "file:1"),
        ({"parameters": 3}, 400, "parameters"),
    ],
)
def test_a_load_takes_no_files_from_clients(app, body, status, told):
    answer = app.send("POST", LOAD, json=body)
    assert answer.status_code == status and told in answer.json()["error"]


def test_null_is_a_field_left_out(app):
    assert len(app.send("POST", "/v2/repository/index", json={"ready": None}).json()) == 2
    for path in (UNLOAD, LOAD):
        assert app.send("POST", path, json={"parameters": None}).status_code == 200


def test_models_that_are_none(app):
    for verb in ("load", "unload"):
        answer = app.send("POST", f"/v2/repository/models/nobody/{verb}")
        assert answer.status_code == 404 and "nobody" in answer.json()["error"]


# As a process

SLOW_SECOND_LOAD = """
import logging, sys, time
from albert_runtime.serve import models
from albert_runtime.serve.__main__ import main
load = models.Entry.load
def slow(entry, limits, *, verify):
    if entry.model is not None:
        logging.getLogger("albert_serve").info("slow load")
        time.sleep(600)
    return load(entry, limits, verify=verify)
models.Entry.load = slow
sys.exit(main())
"""


def test_sighup(start, served, artifacts, predictors):
    """Under load nothing is lost and nothing mixed; a broken version is told of and not served."""
    server = start([served, artifacts["sentiment"]])
    stop = threading.Event()

    def ask_on():
        seen = []
        while not stop.is_set():
            seen.append(version_of(server.http.post(INFER, json=asked(IDS)), predictors))
        return seen

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask_on) for _ in range(4)]
        try:
            for number, name in enumerate((NEW, OLD, NEW), 1):
                replace(served, artifacts[name])
                os.kill(server.process.pid, signal.SIGHUP)
                until(
                    lambda number=number: len(server.events("loaded")) == 2 + 2 * number, "both models again"
                )
                assert version_of(server.http.post(INFER, json=asked(IDS)), predictors) == name
        finally:
            stop.set()
        answers = [one.result(PATIENCE) for one in asking]
    for seen in answers:
        changes = [
            seen[0],
            *(after for before, after in itertools.pairwise(seen) if after != before),
        ]
        assert changes == [OLD, NEW, OLD, NEW][: len(changes)] and len(changes) >= 2
    corrupt(served)
    os.kill(server.process.pid, signal.SIGHUP)
    failed = server.wait_for("load failed")
    assert failed["model"] == "embedder" and "corrupted" in failed["reason"] and failed["level"] == "error"
    assert server.metric("albert_model_loads_total", "embedder", "failed") == 1
    assert version_of(server.http.post(INFER, json=asked(IDS)), predictors) == NEW
    assert server.stop() == 0


def test_the_memory_of_old_versions_is_given_back(start, served, artifacts):
    server = start([served], "--allow-load", environment={"ALBERT_PACKED_CACHE": "0"})

    def reload(times):
        for _ in range(times):
            for name in (NEW, OLD):
                replace(served, artifacts[name])
                assert server.http.post(LOAD).status_code == 200
                outputs_of(server.http.post(INFER, json=asked(IDS)))
        return server.memory()

    before = reload(5)
    assert reload(25) - before < 8 * 2**20
    assert len(list(Path(f"/proc/{server.process.pid}/task").iterdir())) < 40
    assert server.stop() == 0


def test_a_load_in_progress_does_not_hold_up_the_end(start, served):
    """Which would otherwise wait for it."""
    server = start([served], code=SLOW_SECOND_LOAD)
    os.kill(server.process.pid, signal.SIGHUP)
    server.wait_for("slow load")
    outputs_of(server.http.post(INFER, json=asked(IDS)))
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < PATIENCE / 2
