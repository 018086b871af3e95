"""The OpenAPI document: the paths are written here, the bodies come from ``schemas``."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from . import schemas

_ERRORS = {
    "400": "The request is malformed: its framing, its JSON or a tensor.",
    "403": "The server does not allow this.",
    "404": "There is no such model or version.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "422": "The request does not fit the model or exceeds a limit; the message names both.",
    "429": "The queue or the server is full; see Retry-After.",
    "500": "Internal error.",
    "503": "The server is loading or shutting down, or the request timed out; see Retry-After.",
}


def openapi_document(version: str, models: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The OpenAPI document of this server, ready for JSON.

    Args:
        version: The version that the server reports.
        models: The versions of each model, by the model's name.
    """
    schema_types: tuple[Any, ...] = (
        schemas.InferRequest,
        schemas.InferAnswer,
        schemas.RepositoryIndexRequest,
        schemas.RepositoryRequest,
        schemas.PredictRequest,
        schemas.PredictAnswer,
        schemas.EmbeddingsRequest,
        schemas.EmbeddingsAnswer,
        schemas.RerankRequest,
        schemas.RerankAnswer,
        schemas.Error,
        schemas.OpenAiError,
    )
    references, components = msgspec.json.schema_components(
        schema_types, ref_template="#/components/schemas/{name}"
    )
    by_type = dict(zip(schema_types, references, strict=True))

    def post(summary: str, request: Any, answer: Any, error: Any = schemas.Error) -> dict[str, Any]:
        return {
            "summary": summary,
            "requestBody": {"required": True, "content": {"application/json": {"schema": by_type[request]}}},
            "responses": {"200": _json("The answer.", by_type[answer]), **_errors(by_type[error])},
        }

    def get(summary: str, *, can_be_missing: bool = False) -> dict[str, Any]:
        errors = _errors(by_type[schemas.Error])
        found = {"404": errors["404"]} if can_be_missing else {}
        return {"summary": summary, "responses": {"200": _json("What the summary says.", {}), **found}}

    def health(summary: str, *, can_be_missing: bool = False) -> dict[str, Any]:
        described = get(summary, can_be_missing=can_be_missing)
        not_ready = _errors(by_type[schemas.Error])["503"]
        described["responses"].update({"200": {"description": "Yes."}, "503": not_ready})
        return described

    def repository(summary: str, request: Any, *refusals: str) -> dict[str, Any]:
        errors = _errors(by_type[schemas.Error])
        answers = {status: errors[status] for status in ("400", "408", "413", *refusals)}
        body = {"content": {"application/json": {"schema": by_type[request]}}}
        return {
            "summary": summary,
            "requestBody": body,
            "responses": {"200": {"description": "Done."}, **answers},
        }

    paths: dict[str, Any] = {
        "/v2/health/live": {
            "get": {"summary": "Is the server running?", "responses": {"200": {"description": "Yes."}}}
        },
        "/v2/health/ready": {
            "get": health("Is the server ready for requests? Not while it loads its models or shuts down.")
        },
        "/v2": {"get": get("Get the name, version and protocol extensions of the server")},
        "/v2/models/stats": {"get": get("Get counts and times of all models, as Triton's statistics")},
        "/v2/repository/index": {
            "post": repository("List all models with their states", schemas.RepositoryIndexRequest)
        },
        "/predict": {
            "post": post(
                "Answer texts with the model's task: labels, entities, spans, words, choices or vectors",
                schemas.PredictRequest,
                schemas.PredictAnswer,
            )
        },
        "/v1/embeddings": {
            "post": post(
                "Embed texts; compatible with OpenAI's clients",
                schemas.EmbeddingsRequest,
                schemas.EmbeddingsAnswer,
                schemas.OpenAiError,
            )
        },
        "/v1/rerank": {
            "post": post(
                "Order documents by their relevance to a query; compatible with Cohere's and Jina's clients",
                schemas.RerankRequest,
                schemas.RerankAnswer,
                schemas.OpenAiError,
            )
        },
        "/v1/models": {"get": get("List the models; compatible with OpenAI's clients")},
        "/status.json": {"get": get("Get throughput, latency and queue of every model over the last minute")},
        "/metrics": {
            "get": {"summary": "Get the metrics for Prometheus", "responses": {"200": _text("text/plain")}}
        },
        "/openapi.json": {"get": get("Get this document")},
        "/": {
            "get": {"summary": "Show the status page", "responses": {"200": _text("text/html")}},
            "post": _form("Answer the form of the status page"),
        },
    }
    infer = post(
        "Run a model on tensors, in JSON or with the binary tensor data extension",
        schemas.InferRequest,
        schemas.InferAnswer,
    )
    infer["responses"]["200"]["content"]["application/octet-stream"] = {}
    name = _parameter("name", models)
    any_version = _parameter("version", dict.fromkeys(itertools.chain.from_iterable(models.values())))
    for base, parameters in (
        ("/v2/models/{name}", [name]),
        ("/v2/models/{name}/versions/{version}", [name, any_version]),
    ):
        for path, method, described in (
            ("", "get", get("Get the inputs and outputs of a model", can_be_missing=True)),
            ("/ready", "get", health("Is the model ready for requests?", can_be_missing=True)),
            ("/config", "get", get("Get the configuration of a model, as Triton's", can_be_missing=True)),
            ("/stats", "get", get("Get counts and times, as Triton's statistics", can_be_missing=True)),
            ("/infer", "post", infer),
        ):
            paths[base + path] = {"parameters": parameters, method: described}
    for verb, summary in (
        ("load", "Load a model again from its artifact (--allow-load)"),
        ("unload", "Unload a model (--allow-load)"),
    ):
        described = repository(summary, schemas.RepositoryRequest, "403", "404", "422", "500", "503")
        paths[f"/v2/repository/models/{{name}}/{verb}"] = {"parameters": [name], "post": described}
    return {
        "openapi": "3.1.0",
        "info": {"title": "albert-serve", "version": version},
        "paths": paths,
        "components": {"schemas": components},
    }


def _form(summary: str) -> dict[str, Any]:
    fields = {name: {"type": "string"} for name in ("model", "text", "truncate")}
    schema = {"type": "object", "properties": fields, "required": ["text"]}
    return {
        "summary": summary,
        "requestBody": {"content": {"application/x-www-form-urlencoded": {"schema": schema}}},
        "responses": {status: _text("text/html") for status in ("200", *_ERRORS)},
    }


def _json(description: str, schema: Any) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _text(kind: str) -> dict[str, Any]:
    return {"description": "Text.", "content": {kind: {"schema": {"type": "string"}}}}


def _errors(schema: Any) -> dict[str, Any]:
    found = {status: _json(description, schema) for status, description in _ERRORS.items()}
    for status in ("429", "503"):
        found[status]["headers"] = {
            "Retry-After": {
                "description": "Seconds to wait before the next attempt.",
                "schema": {"type": "integer"},
            }
        }
    return found


def _parameter(name: str, values: Iterable[str]) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "enum": list(values)}}
