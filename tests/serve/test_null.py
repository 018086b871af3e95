"""null is a field left out, in every JSON body: LiteLLM, Dify and MLServer send it."""

import json

import msgspec
import pytest

from albert_runtime.serve.http import schemas

IDS = {"name": "input_ids", "shape": [1, 2], "datatype": "INT64", "data": [5, 6]}
# Route, schema, a body with none but the fields that a request must have.
BODIES = [
    ("/predict", schemas.PredictRequest, {"model": "sentiment", "text": "who"}),
    ("/v1/embeddings", schemas.EmbeddingsRequest, {"model": "embedder", "input": "who"}),
    ("/v1/rerank", schemas.RerankRequest, {"model": "embedder", "query": "who", "documents": ["a", "b"]}),
    ("/v2/models/embedder/infer", schemas.InferRequest, {"inputs": [IDS]}),
]


@pytest.mark.parametrize(("path", "schema", "body"), BODIES)
def test_every_optional_field(client, path, schema, body):
    expected = client.post(path, json=body)
    assert expected.status_code == 200, expected.text
    optional = [field.name for field in msgspec.structs.fields(schema) if not field.required]
    nulls = {name: None for name in optional if name not in body}
    assert len(nulls) > 2
    answer = client.post(path, json={**body, **nulls})
    assert (answer.status_code, answer.content) == (200, expected.content)


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": [{**IDS, "parameters": None}]},
        {"inputs": [{**IDS, "parameters": {"binary_data_size": None}}]},
        {"parameters": {"timeout": None, "truncate": None, "binary_data_output": None, "other": None}},
        {"outputs": [{"name": "pooled_output", "parameters": None}]},
        {
            "outputs": [
                {
                    "name": "pooled_output",
                    "parameters": {"classification": None, "shared_memory_region": None, "binary_data": None},
                }
            ]
        },
    ],
)
def test_parameters_of_the_inference_protocol(client, change):
    body = {"inputs": [IDS], **change}
    path = "/v2/models/embedder/infer"
    expected = {"inputs": [IDS]}
    if "outputs" in change:
        expected["outputs"] = [{"name": "pooled_output"}]
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.content == client.post(path, json=expected).content


def test_data_that_is_null_may_come_as_raw_bytes(client):
    tensor = {**IDS, "data": None, "parameters": {"binary_data_size": 16}}
    head = json.dumps({"inputs": [tensor]}).encode()
    raw = b"".join(number.to_bytes(8, "little") for number in (5, 6))
    headers = {"inference-header-content-length": str(len(head))}
    answer = client.post("/v2/models/embedder/infer", content=head + raw, headers=headers)
    assert answer.status_code == 200, answer.text


def test_what_a_request_must_have_is_missing_if_it_is_null(client):
    for path, body in (
        ("/v1/embeddings", {"model": "embedder", "input": None}),
        ("/v1/rerank", {"model": "embedder", "query": "a", "documents": None}),
        ("/v2/models/embedder/infer", {"inputs": None}),
    ):
        assert client.post(path, json=body).status_code == 400
    assert client.post("/predict", json={"model": "sentiment", "text": None}).status_code == 422


def test_the_document_allows_null(client):
    """In every field that may be left out."""
    found = client.get("/openapi.json").json()["components"]["schemas"]
    for _, schema, _ in BODIES:
        described = found[schema.__name__]
        for name, field in described["properties"].items():
            if name not in described["required"]:
                assert {"type": "null"} in field["anyOf"], (schema.__name__, name)
