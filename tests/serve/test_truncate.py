"""Texts that are too long: cut on every route if the request says so, or the server by default."""

import numpy as np
import pytest

from albert_runtime.serve.grpc.messages import MESSAGES, SERVICE

from .server import PATIENCE

LONG = "who a b " * 100_000  # far more tokens than the server takes
IDS = [5, 6, 7] * 100


def texts(value, datatype="BYTES"):
    return {"name": "text", "shape": [1], "datatype": datatype, "data": [value]}


def rows(ids):
    return {"name": "input_ids", "shape": [1, len(ids)], "datatype": "INT64", "data": ids}


def infer(client, tensor, **parameters):
    path = "/v2/models/embedder/versions/1/infer"
    return client.post(path, json={"inputs": [tensor], "parameters": parameters})


def form(client, **fields):
    return client.post("/", data={"model": "sentiment", "text": LONG, **fields})


ROUTES = {
    "/predict": lambda client, **more: client.post(
        "/predict", json={"model": "sentiment", "text": LONG, **more}
    ),
    "/predict choices": lambda client, **more: client.post(
        "/predict", json={"model": "chooser", "prompt": LONG, "choices": [LONG, "a"], **more}
    ),
    "/v1/embeddings": lambda client, **more: client.post(
        "/v1/embeddings", json={"model": "embedder", "input": [LONG, "a"], **more}
    ),
    "/v1/embeddings ids": lambda client, **more: client.post(
        "/v1/embeddings", json={"model": "embedder", "input": IDS, **more}
    ),
    "/v1/rerank": lambda client, **more: client.post(
        "/v1/rerank", json={"model": "relevance", "query": "a", "documents": [LONG], **more}
    ),
    "/v1/rerank vectors": lambda client, **more: client.post(
        "/v1/rerank", json={"model": "embedder", "query": LONG, "documents": [LONG], **more}
    ),
    "/infer": lambda client, **more: infer(client, texts(LONG), **more),
    "/infer ids": lambda client, **more: infer(client, rows(IDS), **more),
}


@pytest.mark.parametrize("route", ROUTES)
def test_the_remedy_is_one_that_the_route_has(client, route):
    refused = ROUTES[route](client)
    assert refused.status_code == 422 and "max_position_embeddings is 64" in refused.text, refused.text
    assert "shorten it or set truncate" in refused.text
    assert ROUTES[route](client, truncate=True).status_code == 200
    assert ROUTES[route](client, truncate=False).status_code == 422


@pytest.fixture(scope="module")
def cutting(start, artifacts):
    """A server that cuts texts by default."""
    return start(list(artifacts.values()), "--truncate").http


@pytest.mark.parametrize("route", ROUTES)
def test_by_default(client, cutting, route):
    answer = ROUTES[route](cutting)
    assert answer.status_code == 200, answer.text
    assert answer.content == ROUTES[route](client, truncate=True).content
    assert ROUTES[route](cutting, truncate=False).status_code == 422


def test_the_page(client, cutting):
    assert form(client).status_code == 422
    cut = form(client, truncate="true")
    assert cut.status_code == 200 and "checked" in cut.text
    assert form(cutting).status_code == 200


def test_entities_are_found_in_whole_texts_by_default(client, cutting):
    body = {"model": "words", "text": "Anna lives in Paris " * 40}
    whole = client.post("/predict", json=body).json()["answers"]
    assert whole == cutting.post("/predict", json=body).json()["answers"]
    cut = client.post("/predict", json={**body, "truncate": True}).json()["answers"]
    assert cut != whole


def test_what_is_kept(client, predictors):
    expected = predictors["embedder"].run([LONG], truncate=True)
    for answer, wanted in (
        (infer(client, texts(LONG), truncate=True), expected),
        (infer(client, rows(IDS), truncate=True), predictors["embedder"].run([IDS[:64]])),
    ):
        for output in answer.json()["outputs"]:
            assert output["shape"] == list(wanted[output["name"]].shape)
            assert np.array_equal(np.float32(output["data"]), wanted[output["name"]].ravel())


@pytest.mark.parametrize("value", ["true", 1, 0, [], {}])
def test_a_parameter_that_is_no_truth(client, value):
    answer = infer(client, rows([5]), truncate=value)
    assert answer.status_code == 400 and "truncate" in answer.json()["error"]


def test_over_grpc(server, predictors):
    grpc = pytest.importorskip("grpc")

    def request(kind, value):
        made = MESSAGES["ModelInferRequest"](model_name="embedder", model_version="1")
        item = made.inputs.add(name="text", datatype="BYTES", shape=[1])
        item.contents.bytes_contents.append(LONG.encode())
        made.outputs.add(name="pooled_output")
        setattr(made.parameters["truncate"], kind, value)
        return made.SerializeToString()

    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary(
            f"/{SERVICE}/ModelInfer", response_deserializer=MESSAGES["ModelInferResponse"].FromString
        )
        answer = call(request("bool_param", True), timeout=PATIENCE)
        expected = predictors["embedder"].run([LONG], ["pooled_output"], truncate=True)["pooled_output"]
        assert answer.raw_output_contents[0] == expected.tobytes()
        for kind, value, needle in (
            ("bool_param", False, "set truncate"),
            ("string_param", "true", "truncate"),
        ):
            with pytest.raises(grpc.RpcError) as told:
                call(request(kind, value), timeout=PATIENCE)
            assert told.value.code().name == "INVALID_ARGUMENT" and needle in told.value.details()


def test_limits_count_what_is_left(start, artifacts):
    server = start([artifacts["embedder"]], "--max-tokens", 128)
    for count, status in ((2, 200), (3, 422)):
        body = {"texts": [LONG] * count, "truncate": True}
        assert server.http.post("/predict", json=body).status_code == status
        ids = {**rows(IDS), "shape": [count, 300], "data": IDS * count}
        answer = server.http.post(
            "/v2/models/embedder/infer", json={"inputs": [ids], "parameters": {"truncate": True}}
        )
        assert answer.status_code == status


def test_prompts_count(start, artifacts):
    server = start([artifacts["sentences"]], "--max-tokens", 30)
    body = {"input": ["who a b"] * 7}
    for prompt, status in (("document", 200), ("query", 422)):  # 3 tokens more for each
        answer = server.http.post("/v1/embeddings", json={**body, "prompt_name": prompt})
        assert answer.status_code == status, answer.text
