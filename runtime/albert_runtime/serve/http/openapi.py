"""The OpenAPI document: paths by hand, their bodies from the schemas."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from . import schemas

_ERRORS = {
    "400": "malformed: the framing, the JSON or a tensor",
    "404": "no such model or version",
    "408": "the body did not come in time",
    "413": "the body is too large",
    "422": "understood, but not to be answered: the message names what and why",
    "429": "too many requests wait; Retry-After says when to come again",
    "500": "internal error",
    "503": "warming up, going down, or not answered within its time",
}


def document(version: str, models: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The document of a server with these models, by name their versions, ready for JSON."""
    kinds: tuple[Any, ...] = (
        schemas.InferRequest,
        schemas.InferAnswer,
        schemas.PredictRequest,
        schemas.PredictAnswer,
        schemas.EmbeddingsRequest,
        schemas.EmbeddingsAnswer,
        schemas.Error,
        schemas.OpenAiError,
    )
    references, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    by_kind = dict(zip(kinds, references, strict=True))

    def post(summary: str, asked: Any, answered: Any, error: Any = schemas.Error) -> dict[str, Any]:
        return {
            "summary": summary,
            "requestBody": {"required": True, "content": {"application/json": {"schema": by_kind[asked]}}},
            "responses": {"200": _json("the answer", by_kind[answered]), **_errors(by_kind[error])},
        }

    def get(summary: str, *, fails: bool = False) -> dict[str, Any]:
        errors = _errors(by_kind[schemas.Error])
        found = {"404": errors["404"]} if fails else {}
        return {"summary": summary, "responses": {"200": _json("as the summary says", {}), **found}}

    def health(summary: str, *, fails: bool = False) -> dict[str, Any]:
        described = get(summary, fails=fails)
        described["responses"].update({"200": {"description": "yes"}, "503": {"description": "no"}})
        return described

    paths: dict[str, Any] = {
        "/v2/health/live": {"get": {"summary": "Is it there?", "responses": {"200": {"description": "yes"}}}},
        "/v2/health/ready": {"get": health("Have all models answered once, and does it stay?")},
        "/v2": {"get": get("Name, version and extensions of the server")},
        "/predict": {
            "post": post("The task's own answer to texts", schemas.PredictRequest, schemas.PredictAnswer)
        },
        "/v1/embeddings": {
            "post": post(
                "Vectors of texts, as OpenAI's clients ask for them",
                schemas.EmbeddingsRequest,
                schemas.EmbeddingsAnswer,
                schemas.OpenAiError,
            )
        },
        "/v1/models": {"get": get("The models, as OpenAI's clients ask for them")},
        "/status.json": {"get": get("The last minute of every model")},
        "/metrics": {"get": {"summary": "For Prometheus", "responses": {"200": _text("text/plain")}}},
        "/openapi.json": {"get": get("This document")},
        "/": {
            "get": {"summary": "The page for people", "responses": {"200": _text("text/html")}},
            "post": _form("The page with an answer in it"),
        },
    }
    infer = post(
        "Inference; tensors in JSON, or with the binary extension", schemas.InferRequest, schemas.InferAnswer
    )
    infer["responses"]["200"]["content"]["application/octet-stream"] = {}
    name = _parameter("name", models)
    any_version = _parameter("version", dict.fromkeys(itertools.chain.from_iterable(models.values())))
    for base, parameters in (
        ("/v2/models/{name}", [name]),
        ("/v2/models/{name}/versions/{version}", [name, any_version]),
    ):
        for path, method, described in (
            ("", "get", get("Inputs and outputs of a model", fails=True)),
            ("/ready", "get", health("Is the model ready?", fails=True)),
            ("/infer", "post", infer),
        ):
            paths[base + path] = {"parameters": parameters, method: described}
    return {
        "openapi": "3.1.0",
        "info": {"title": "albert-serve", "version": version},
        "paths": paths,
        "components": {"schemas": components},
    }


def _form(summary: str) -> dict[str, Any]:
    fields = {name: {"type": "string"} for name in ("model", "text")}
    schema = {"type": "object", "properties": fields, "required": ["text"]}
    return {
        "summary": summary,
        "requestBody": {"content": {"application/x-www-form-urlencoded": {"schema": schema}}},
        "responses": {status: _text("text/html") for status in ("200", *_ERRORS)},
    }


def _json(description: str, schema: Any) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _text(kind: str) -> dict[str, Any]:
    return {"description": "text", "content": {kind: {"schema": {"type": "string"}}}}


def _errors(schema: Any) -> dict[str, Any]:
    found = {status: _json(description, schema) for status, description in _ERRORS.items()}
    for status in ("429", "503"):
        found[status]["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    return found


def _parameter(name: str, values: Iterable[str]) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "enum": list(values)}}
