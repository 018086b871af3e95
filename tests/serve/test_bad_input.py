"""What a server refuses: each fault has its status, and a message that names it."""

import gzip
import json
import zlib
from contextlib import nullcontext
from dataclasses import replace

import httpx
import numpy as np
import pytest

from albert_runtime import InputError
from albert_runtime.artifact.artifact import Artifact
from albert_runtime.serve.grpc.messages import MESSAGES, SERVICE
from albert_runtime.serve.limits import ServerLimits
from albert_runtime.serve.request_limits import RequestLimits

from .server import PATIENCE


def ids(values, name="input_ids", datatype="INT64"):
    array = np.array(values)
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "data": array.ravel().tolist()}


def texts(*values, name="text"):
    return {"name": name, "shape": [len(values)], "datatype": "BYTES", "data": list(values)}


def infer(client, model, *inputs, **more):
    return client.post(f"/v2/models/{model}/infer", json={"inputs": list(inputs), **more})


@pytest.mark.parametrize(
    ("inputs", "needles"),
    [
        ([ids([5, 6])], ["input_ids"]),  # one dimension too few
        ([ids([[[5, 6]]])], ["input_ids"]),
        ([ids([[5] * 65])], ["65", "64"]),  # a row too long names the limit
        ([texts("who " * 65)], ["row 0", "64"]),
        ([texts("a", "who " * 65)], ["row 1", "64"]),
        ([ids([[5, 50]])], ["50"]),  # beyond the vocabulary of 50
        ([ids([[5, -1]])], ["-1"]),
        ([ids([[5, 6]]), ids([[1]], "attention_mask")], ["attention_mask"]),
        ([ids([[5, 6]]), ids([[1, 2]], "attention_mask")], ["attention_mask", "2"]),
        ([ids([[5, 6]]), ids([[0, 7]], "token_type_ids")], ["token_type_ids", "7"]),
        ([ids([[1]], "attention_mask")], ["input_ids"]),
        ([ids([[5]], "nothing")], ["nothing", "input_ids"]),
        ([ids([[5]]), texts("a")], ["text"]),
        ([texts("a", name="text_pair")], ["text"]),
        ([texts("a"), texts("a", "b", name="text_pair")], ["text has 1 rows", "text_pair has 2"]),
        ([{**ids([5]), "name": "text"}], ["text", "BYTES"]),
        ([{**texts("a"), "name": "input_ids"}], ["input_ids", "INT64"]),
        ([texts()], ["no rows"]),
        ([{**texts("a", "b"), "shape": [1, 2]}], ["text", "[1, 2]", "[B]"]),
        ([{**ids([[5]]), "shape": [0, 4], "data": []}], ["input_ids"]),
    ],
)
def test_tensors_that_do_not_fit_the_model(client, inputs, needles):
    answer = infer(client, "embedder", *inputs)
    assert answer.status_code == 422, answer.text
    assert all(needle in answer.json()["error"] for needle in needles), answer.text


@pytest.mark.parametrize("other", ["a" * 50_000, 1.5, True, None, {"a": 1}, 2**70, [[[1]]]])
def test_values_of_other_types_among_many(client, server, other):
    """numpy would give each the size of the largest: 5 GB of a request of 100 KB."""
    before = server.memory()
    data = [other, *[1] * 24_999]
    answer = infer(client, "embedder", {**ids([[5]]), "shape": [100, 250], "data": data})
    assert answer.status_code == 400 and "input_ids" in answer.json()["error"], answer.text
    assert server.memory() - before < 64 * 2**20


def test_a_message_does_not_repeat_what_is_long(client):
    for tensor in (
        ids([[5]], "x" * 100_000),
        ids([[5]], "x" * 100_000, "FP64"),
        {**ids([[5]]), "data": ["x"]},
    ):
        answer = infer(client, "embedder", tensor)
        assert answer.status_code in (400, 422) and 10 < len(answer.json()["error"]) < 1100


@pytest.mark.parametrize(
    ("model", "status", "needle"),
    [
        ("nobody", 404, "nobody"),
        ("embedder/versions/9", 404, "9"),
        ("embedder/versions/x", 404, "x"),
        ("%FF%00<script>", 404, "this server has embedder"),
        ("embedder/versions/1", 200, ""),
    ],
)
def test_unknown_models(client, model, status, needle):
    answer = infer(client, model, ids([[5]]))
    assert answer.status_code == status and needle in answer.text
    assert client.get(f"/v2/models/{model}").status_code == status
    assert client.get(f"/v2/models/{model}/ready").status_code == status


def test_unknown_outputs(client):
    answer = infer(client, "embedder", ids([[5]]), outputs=[{"name": "logits"}])
    assert answer.status_code == 422
    assert "logits" in answer.json()["error"] and "pooled_output" in answer.json()["error"]


@pytest.mark.parametrize("value", [-1, 1.5, "1", True, []])
def test_timeouts_that_are_none(client, value):
    answer = infer(client, "embedder", ids([[5]]), parameters={"timeout": value})
    assert answer.status_code == 400 and "timeout" in answer.json()["error"]


@pytest.mark.parametrize(
    ("kind", "value", "code"),
    [
        ("int64_param", 60_000_000, None),
        ("uint64_param", 60_000_000, None),
        ("int64_param", -1, "INVALID_ARGUMENT"),
        ("string_param", "1", "INVALID_ARGUMENT"),
        ("bool_param", True, "INVALID_ARGUMENT"),
    ],
)
def test_timeouts_over_grpc(server, kind, value, code):
    """One of another type is not taken for none."""
    grpc = pytest.importorskip("grpc")
    request = MESSAGES["ModelInferRequest"](model_name="embedder")
    item = request.inputs.add(name="input_ids", datatype="INT64", shape=[1, 1])
    item.contents.int64_contents.append(5)
    setattr(request.parameters["timeout"], kind, value)
    with grpc.insecure_channel(server.grpc) as channel:
        infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        if code is None:
            assert infer(request.SerializeToString())
            return
        with pytest.raises(grpc.RpcError) as told:
            infer(request.SerializeToString())
    assert told.value.code().name == code and "timeout" in told.value.details()


def test_parameters_without_a_value_over_grpc(server):
    grpc = pytest.importorskip("grpc")
    request = MESSAGES["ModelInferRequest"](model_name="embedder")
    item = request.inputs.add(name="input_ids", datatype="INT64", shape=[1, 1])
    item.contents.int64_contents.append(5)
    output = request.outputs.add(name="pooled_output")
    for parameters, name in ((request.parameters, "timeout"), (request.parameters, "truncate")):
        parameters[name].SetInParent()
    output.parameters["classification"].SetInParent()
    with grpc.insecure_channel(server.grpc) as channel:
        assert channel.unary_unary(f"/{SERVICE}/ModelInfer")(request.SerializeToString())


def test_a_timeout_of_0_is_none(client):
    assert infer(client, "embedder", ids([[5]]), parameters={"timeout": 0}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v2/models", 404),
        ("GET", "/v2/", 404),  # and no redirect to the host that the client names
        ("POST", "/v2/models/embedder/infer/", 404),
        ("GET", "/" + "x" * 4000, 404),
        ("GET", "/..%2f..%2fetc/passwd", 404),
        ("POST", "/v2", 405),
        ("GET", "/predict", 405),
        ("DELETE", "/v2/models/embedder", 405),
        ("PUT", "/", 405),
    ],
)
def test_wrong_paths_and_methods(client, method, path, status):
    answer = client.request(method, path)
    assert answer.status_code == status
    assert path[:20].split("%")[0] in answer.json()["error"] and len(answer.content) < 1000
    assert (answer.headers.get("allow") is not None) == (status == 405)


@pytest.mark.parametrize("host", ["[", "[::1", "a b", "\u00ff", "evil.example", "a:b:c"])
def test_hosts_that_are_none(client, host):
    for path in ("/nothing", "/v2/", "/"):
        answer = client.get(path, headers={"host": host.encode("latin-1")})
        assert answer.status_code in (200, 400, 404) and "location" not in answer.headers


# Sizes


@pytest.fixture(scope="module")
def small(start, artifacts):
    """A server with small bounds."""
    server = start(
        [artifacts[name] for name in ("embedder", "filler", "chooser", "reader")],
        *("--max-body-mib", 1, "--max-texts", 4, "--max-tokens", 40, "--max-answer-mib", 1),
    )
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        client.server = server
        yield client


def blank(size):
    return b'{"inputs": [' + b" " * size + b"]}"


def test_a_body_too_large(small):
    answer = small.post("/predict", content=blank(2**20))
    assert answer.status_code == 413 and str(2**20) in answer.json()["error"]
    answer = small.post("/v2/models/embedder/infer", content=iter([blank(2**16)] * 20))  # chunked
    assert answer.status_code == 413 and str(2**20) in answer.json()["error"]
    assert small.post("/", content=b"text=" + b"a" * 2**20).status_code == 413
    assert infer(small, "embedder", ids([[5]])).status_code == 200


@pytest.mark.parametrize("method", ["gzip", "deflate"])
def test_a_body_that_unpacks_to_too_much(small, method):
    pack = gzip.compress if method == "gzip" else zlib.compress
    bomb = pack(bytes(64 * 2**20))
    before = small.server.memory()
    answer = small.post("/predict", content=bomb, headers={"content-encoding": method})
    assert answer.status_code == 413 and "decompressed" in answer.json()["error"]
    assert small.server.memory() - before < 32 * 2**20


BODY = json.dumps({"inputs": [ids([[5]])]}).encode()
ZIPPED = gzip.compress(BODY, mtime=0)  # the time would name tests differently in each process


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", BODY),
        ("gzip", b""),
        ("gzip", ZIPPED[:-9]),
        ("gzip", ZIPPED + b"more"),
        ("deflate", b"\x78\x9c\xff\xff"),
        ("br", BODY),
        ("gzip, gzip", gzip.compress(ZIPPED, mtime=0)),
    ],
)
def test_a_body_that_cannot_be_unpacked(small, encoding, body):
    answer = small.post("/v2/models/embedder/infer", content=body, headers={"content-encoding": encoding})
    assert (answer.status_code == 400 and "compressed" in answer.text) or "encoding" in answer.text


def test_too_many_texts_and_tokens(small):
    few, many = ["who"] * 4, ["who"] * 5
    assert small.post("/predict", json={"model": "embedder", "texts": few}).status_code == 200
    for answer in (
        small.post("/predict", json={"model": "embedder", "texts": many}),
        small.post("/v1/embeddings", json={"model": "embedder", "input": many}),
        small.post("/predict", json={"model": "chooser", "prompt": "who", "choices": many}),
        infer(small, "embedder", texts(*many)),
    ):
        assert answer.status_code == 422 and "5 texts" in answer.text and "takes 4" in answer.text
    long = ["who a b " * 5] * 3  # 45 tokens
    for answer in (
        small.post("/predict", json={"model": "embedder", "texts": long}),
        small.post("/v1/embeddings", json={"model": "embedder", "input": long}),
        infer(small, "embedder", texts(*long)),
        # A prompt is computed with every choice.
        small.post("/predict", json={"model": "chooser", "prompt": "who a b " * 5, "choices": few[:3]}),
        small.post("/predict", json={"model": "reader", "question": "who", "context": "a who " * 30}),
    ):
        assert answer.status_code == 422 and "tokens in all; this server takes 40" in answer.text
    answer = infer(small, "embedder", ids([[5] * 14] * 3))
    assert answer.status_code == 422 and "42 tokens" in answer.text


def test_an_answer_too_large(make_app):
    """One long row makes all others of its batch as wide; a mask's candidates repeat its text."""
    app = make_app("embedder", "filler", max_answer_bytes=12_000)
    rows = ["a"] * 9 + ["a b " * 15]
    fitting = app.send("POST", "/v2/models/embedder/infer", json={"inputs": [texts(*rows[:9])]})
    assert fitting.status_code == 200
    long = {"inputs": [texts(*rows)]}
    answer = app.send("POST", "/v2/models/embedder/infer", json=long)
    assert answer.status_code == 422 and "12000" in answer.text
    pooled = app.send(
        "POST", "/v2/models/embedder/infer", json={**long, "outputs": [{"name": "pooled_output"}]}
    )
    assert pooled.status_code == 200
    padded = {"inputs": [ids(np.full((10, 60), 5))]}
    answer = app.send("POST", "/v2/models/embedder/infer", json=padded)
    assert answer.status_code == 422 and "12000" in answer.text
    masks = {"model": "filler", "text": "[MASK] " * 20}
    assert app.send("POST", "/predict", json={**masks, "top_k": 1}).status_code == 200
    answer = app.send("POST", "/predict", json={**masks, "top_k": 40})
    assert answer.status_code == 422 and "top_k" in answer.text


def test_an_answer_of_all_layers_states_counts_every_layer(make_app, artifacts):
    manifest = Artifact.open(artifacts["embedder"]).manifest
    head = replace(manifest.head, hidden_states=True)
    states = replace(manifest, head=head, outputs=head.outputs(manifest.config))
    layers = manifest.config.num_hidden_layers + 1
    expected = 4 * 3 * 10 * layers * manifest.config.hidden_size
    for limit, fits in ((expected, True), (expected - 1, False)):
        limits = RequestLimits(ServerLimits(max_answer_bytes=limit), None, states)
        with nullcontext() if fits else pytest.raises(InputError, match=f"{expected} bytes"):
            limits.check_outputs(3, 10, ["hidden_states"])


def test_over_grpc_too(small):
    from albert_runtime.serve.grpc.messages import MESSAGES, SERVICE

    grpc = pytest.importorskip("grpc")

    def fails(request):
        with grpc.insecure_channel(small.server.grpc) as channel:
            call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
            with pytest.raises(grpc.RpcError) as caught:
                call(request.SerializeToString(), timeout=PATIENCE)
        return caught.value.code().name, caught.value.details()

    def request(shape, values, model="embedder", **more):
        made = MESSAGES["ModelInferRequest"](model_name=model, **more)
        item = made.inputs.add(name="input_ids", datatype="INT64", shape=shape)
        item.contents.int64_contents.extend(values)
        return made

    for made, status, needle in (
        (request([1, 1], [5], "nobody"), "NOT_FOUND", "nobody"),
        (request([1, 1], [5], model_version="7"), "NOT_FOUND", "7"),
        (request([1, 1], [5], outputs=[{"name": "nothing"}]), "INVALID_ARGUMENT", "nothing"),
        (request([1, 1], [50]), "INVALID_ARGUMENT", "50"),
        (request([1, 65], [5] * 65), "INVALID_ARGUMENT", "takes 40"),
        (request([1, 2], [5]), "INVALID_ARGUMENT", "1 values; its shape needs 2"),
        (request([3], [5] * 3), "INVALID_ARGUMENT", "input_ids"),
        (request([1, 2**18], [5] * 2**18, id="x" * 2**20), "RESOURCE_EXHAUSTED", "1048576"),
    ):
        code, details = fails(made)
        assert code == status and needle in details, (code, details)
