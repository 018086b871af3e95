"""The served OpenAPI document, and Schemathesis' requests made from it: what comes back is what it says."""

import json
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings

schemathesis = pytest.importorskip("schemathesis")
from schemathesis import GenerationMode  # noqa: E402
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)
METHODS = {"get", "post", "put", "delete", "patch"}


@pytest.fixture(scope="module")
def document(make_app):
    return make_app("embedder").send("GET", "/openapi.json").json()


@pytest.fixture(scope="module")
def schema(server):
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


def test_every_route_is_in_the_document(make_app, document):
    """And nothing else."""
    routes = {
        (route.path, method.lower())
        for route in make_app("embedder").app.routes
        for method in route.methods - {"HEAD"}
    }
    told = {(path, verb) for path, item in document["paths"].items() for verb in item if verb in METHODS}
    assert routes == told


def test_the_document_is_valid(schema):
    schema.validate()


def test_every_reference_is_there(document):
    text = json.dumps(document)
    for part in text.split('"#/components/schemas/')[1:]:
        assert part.split('"')[0] in document["components"]["schemas"]


SETTINGS = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def check_all(schema, wanted, change, max_examples, mode=GenerationMode.POSITIVE, checks=CHECKS):
    """Requests to every operation whose path is ``wanted``; (operation, status) -> how many."""
    answers = Counter()
    for found in schema.get_all_operations():
        operation = found.ok()
        if not wanted(operation.path):
            continue

        @settings(SETTINGS, max_examples=max_examples)
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case):
            change(case)
            answer = case.call_and_validate(checks=checks, timeout=60)
            answers[case.operation.label, answer.status_code] += 1

        check()
    return answers


def test_requests_from_the_document(schema):
    answers = check_all(schema, lambda path: True, lambda case: None, 12)
    paths = schema.raw_schema["paths"].items()
    routes = {f"{verb.upper()} {path}" for path, item in paths for verb in item if verb in METHODS}
    # Schemathesis leaves out where it has the document from.
    assert {label for label, _ in answers} == routes - {"GET /openapi.json"}
    read = [answers["POST /v2/models/{name}/infer", status] for status in (200, 400, 422)]
    assert sum(read) > 6  # models that are there: bodies come to be read
    assert answers["GET /v2", 200] and answers["GET /", 200] and answers["GET /metrics", 200]


def test_what_the_document_forbids_is_refused(schema):
    """Bodies that break the schemas."""
    checks = (*CHECKS, negative_data_rejection)
    posts = ("/predict", "/v1/embeddings", "/v1/rerank", "/v2/models/{name}/infer")
    answers = check_all(
        schema, lambda path: path in posts, lambda case: None, 25, GenerationMode.NEGATIVE, checks
    )
    assert all(answers[f"POST {path}", 400] for path in posts), answers


MODELS = ["embedder", "sentiment", "entities", "reader", "filler", "chooser"]
FORMS = {
    "reader": ("question", "context"),
    "chooser": ("prompt", "choices"),
    "sentiment": ("texts",),
    "entities": ("text",),
    "embedder": ("input",),
    "relevance": ("query", "documents"),
}


def test_bodies_for_models_that_are_there(schema):
    """The model that fits what is in the body, and nothing in it that does not fit."""

    def named(case):
        for model, fields in FORMS.items():
            if isinstance(case.body, dict) and all(case.body.get(field) for field in fields):
                case.body = {"model": model, **{field: case.body[field] for field in fields}}
                return

    paths = ("/predict", "/v1/embeddings", "/v1/rerank")
    answers = check_all(schema, lambda path: path in paths, named, 40)
    assert all(answers[f"POST {path}", 200] for path in paths), answers
