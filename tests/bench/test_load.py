"""The load generator against servers that misbehave on purpose, and what it makes of its figures."""

import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest

from albert_bench.compare import encoder_manifest
from albert_bench.load import generators, report, servers
from albert_bench.load.client import Connection, Reply, floats, request_bytes
from albert_bench.load.generators import ID, Load, Target, closed_loop, open_loop
from albert_bench.load.plots import draw
from albert_bench.load.policies import arrivals, turn
from albert_bench.load.policies import main as policies_main
from albert_bench.load.reloads import Reloads
from albert_bench.load.soak import main as soak_main
from albert_bench.load.sweep import main, make_requests, summarize
from albert_runtime import ArtifactError, Predictor
from albert_runtime.serve.http.inference import parse_request, requested_outputs


async def against(handler, ask):
    """ask(host, port) beside a server whose handler(number, body) -> (status, id) answers requests."""
    count = iter(range(1 << 30))

    async def connected(reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                answer = await handler(next(count), body)
                if answer is None:
                    break
                status, name = answer
                text = json.dumps({"id": name}).encode()
                writer.write(b"HTTP/1.1 %d x\r\ncontent-length: %d\r\n\r\n%s" % (status, len(text), text))
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        return await ask(Target("127.0.0.1", server.sockets[0].getsockname()[1], REQUESTS))
    finally:
        server.close()


def id_of(body):
    length = body.index(b"}]}") + 3
    return json.loads(body[:length])["id"]


REQUESTS = [(request_bytes("/v2/models/m/infer", np.array([5, 6]), "pooled_output", ID), 2)]


async def honest(number, body):
    return 200, id_of(body)


def test_a_request_is_what_the_server_reads():
    head, body = request_bytes("/v2/models/m/infer", np.array([5, 6, 7]), "pooled_output", "x").split(
        b"\r\n\r\n", 1
    )
    length = head.split(b"inference-header-content-length: ")[1].split(b"\r\n")[0]
    request, tensors = parse_request(body, length.decode())
    assert request.id == "x" and requested_outputs(request) == ["pooled_output"]
    assert tensors[0].name == "input_ids" and tensors[0].values.tolist() == [[5, 6, 7]]


def test_a_closed_loop_asks_again_as_it_is_answered():
    load = asyncio.run(against(honest, lambda target: closed_loop(target, 3, 0.2)))
    assert load.offered == len(load.latencies) == load.statuses["200"] > 3
    assert load.tokens == 2 * load.offered and set(load.statuses) == {"200"}


@pytest.mark.alone  # what a second of it offers
def test_an_open_loop_offers_its_rate_whatever_comes_back():
    async def stalled(number, body):
        await asyncio.sleep(0.3)
        return 200, id_of(body)

    load = asyncio.run(against(stalled, lambda target: open_loop(target, 100, 0.5)))
    assert 25 < load.offered < 85 and load.statuses["200"] == load.offered
    assert load.percentile(0.5) > 0.29


@pytest.mark.alone  # which answers come within 0.1 s
def test_latency_counts_from_when_a_request_was_due(monkeypatch):
    """One connection, one stall: those that had to wait for it are late, though they were sent after it."""
    monkeypatch.setattr(generators, "_MAX_CONNECTIONS", 1)

    async def stall_once(number, body):
        await asyncio.sleep(0.4 if number == 0 else 0)
        return 200, id_of(body)

    load = asyncio.run(against(stall_once, lambda target: open_loop(target, 50, 0.5)))
    assert np.mean(np.array(load.latencies) > 0.1) > 0.3


def test_what_goes_wrong_is_counted():
    async def moody(number, body):
        return [(200, id_of(body)), (429, ""), (200, "another's"), None][number % 4]

    load = asyncio.run(against(moody, lambda target: closed_loop(target, 1, 0.2)))
    assert {"200", "429", "mixed up", "broken"} == set(load.statuses)
    assert len(load.latencies) == load.statuses["200"]


def test_a_load_without_answers():
    assert summarize(Load(offered=3, seconds=1.0))["p99"] is None


def test_throughput_within_a_bound():
    def step(share, p99, answers):
        return {"share": share, "server": "a", "rate": 1.0, "answers_per_second": answers, "p99": p99}

    # Two rounds at 40 %; at 80 % more is offered than answered.
    steps = [step(0.2, 10.0, 20.0), step(0.4, 20.0, 39.0), step(0.4, 40.0, 41.0), step(0.6, 130.0, 60.0)]
    ladder = {"ladder": [*steps, step(0.8, 400.0, 58.0), step(1.0, None, 0.0)]}
    assert report.throughput_within(ladder, "a", 5.0) is None
    assert report.throughput_within(ladder, "a", 30.0) == pytest.approx(40.0)
    assert report.throughput_within(ladder, "a", 80.0) == pytest.approx(50.0)
    assert report.throughput_within(ladder, "a", 500.0) == pytest.approx(58.0)
    steps[0]["p99"] = 1000.0  # a bad moment
    assert report.throughput_within(ladder, "a", 80.0) == pytest.approx(50.0)


def test_arrivals_have_the_rate_and_the_jobs():
    rows = [np.arange(3)] * 4
    plan = arrivals(rows, 200.0, 50.0, seed=1)
    assert 0.8 < sum(len(batch) for _, batch in plan) / (200 * 50) < 1.2
    assert {len(batch) for _, batch in plan} == {1, 64}
    assert [moment for moment, _ in plan] == sorted(moment for moment, _ in plan)


@pytest.fixture(scope="module")
def artifact(export_artifact):
    return export_artifact("albert-chinese-tiny", small_layers=1)


def test_policies_answer_all(artifact):
    predictor = Predictor(artifact)
    plan = [(0.0, [np.array([5, 6, 7])]), (0.01, [np.array([5])] * 64), (0.02, [np.array([8, 9])])]
    found = turn(predictor, plan, 64, 0.001)
    assert found["singles"]["p99"] > 0 and found["jobs"]["p50"] > 0


@pytest.mark.alone  # offers shares of what the servers can answer, refusals are faults
def test_the_whole_on_a_small_model(artifact, tmp_path, monkeypatch, capsys):
    """Every server starts, answers and stops; tables and picture are written."""
    monkeypatch.setattr("albert_bench.load.sweep.SHARES", (0.2, 0.5))
    assert main([str(artifact), "-o", str(tmp_path), "--seconds", "0.3", "--rounds", "1"]) == 0
    results = json.loads((tmp_path / "load.json").read_text("utf-8"))
    names = {server.name for server in servers.SERVERS}
    assert set(results["capacity"]) == names and {turn["server"] for turn in results["ladder"]} == names
    assert all(set(turn["statuses"]) <= {"200"} for turn in results["ladder"])
    table = (tmp_path / "load.md").read_text("utf-8")
    assert all(f"| {name} |" in table for name in names)
    assert draw(results, tmp_path).read_text("utf-8").startswith("<?xml")
    assert soak_main([str(artifact), "-o", str(tmp_path), "--minutes", "0.02"]) == 0
    assert (
        policies_main(
            [str(artifact), "-o", str(tmp_path), "--seconds", "0.2", "--rounds", "1", "--shares", "0.3"]
        )
        == 0
    )


def test_servers_answer_alike(artifact):
    """The peers' answers are the engine's, within what float32 allows."""
    requests = make_requests(Predictor(artifact).manifest)[:8]
    answers = []
    for server in servers.SERVERS:
        with servers.running(server, artifact) as process:

            async def ask(port=process.port):
                connections = [Connection("127.0.0.1", port) for _ in requests]
                asked = (one.ask(request) for one, (request, _) in zip(connections, requests, strict=True))
                replies = await asyncio.gather(*asked)
                for connection in connections:
                    await connection.close()
                return replies

            answers.append([floats(reply, 312) for reply in asyncio.run(ask())])
    for other in answers[1:]:
        np.testing.assert_allclose(other, answers[0], atol=2e-5)


def test_an_artifact_of_any_precision_is_served(export_artifact):
    """Where engines are compared it is refused: there each peer converts float32 weights itself."""
    half = export_artifact("albert-chinese-tiny", small_layers=1, precision="fp16")
    with pytest.raises(ArtifactError, match="stores its weights in fp16"):
        encoder_manifest(half)
    assert encoder_manifest(half, any_precision=True).precision == "fp16"


def test_an_artifact_that_cannot_be_served(tmp_path, capsys):
    assert main([str(tmp_path / "none")]) == 1
    assert "error:" in capsys.readouterr().err


@pytest.mark.alone  # offers a share of what the server can answer
def test_a_soak_with_reloads(artifact, tmp_path, monkeypatch):
    """Above capacity nothing is lost while versions change, and each answer is that of the right one."""
    monkeypatch.setattr("albert_bench.load.soak._CAPACITY_SECONDS", 1.0)
    command = [str(artifact), "-o", str(tmp_path), "--minutes", "0.1", "--reload-every", "0.5"]
    assert soak_main(command) == 0
    results = json.loads((tmp_path / "soak-reloads.json").read_text("utf-8"))
    assert results["reloads"] >= 3
    assert results["statuses"]["200"] > 50 and set(results["statuses"]) <= {"200", "429"}
    assert sum(results["statuses"].values()) == results["offered"]


def test_which_version_may_answer():
    """The current one; between the signal and the end of the load the one before it, too."""
    reloads = Reloads(None, None, [], [[b"old"], [b"new"]])
    reloads._switches.append((10.0, 12.0, 1))

    def right(body, sent, received):
        return reloads.is_right(7, Reply(200, "", body), sent, received)

    assert right(b"..old", 8.0, 9.0) and not right(b"..new", 8.0, 9.0)
    assert right(b"..old", 9.0, 11.0) and right(b"..new", 9.0, 11.0)
    assert right(b"..old", 11.0, 99.0) and right(b"..new", 11.0, 99.0)
    assert right(b"..new", 12.5, 13.0) and not right(b"..old", 12.5, 13.0)
    assert not right(b"..nobody's", 11.0, 11.5)


def test_an_answer_that_is_not_right_is_counted():
    async def ask(target):
        return await closed_loop(replace(target, is_right=lambda *given: False), 1, 0.05)

    load = asyncio.run(against(honest, ask))
    assert set(load.statuses) == {"wrong"} and not load.latencies
