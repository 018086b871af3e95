"""The HTTP side: routes, their bodies and their errors."""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..errors import AlbertError, InputError
from ..tasks import MODEL, MULTIPLE_CHOICE, QUESTION_ANSWERING
from . import inference_http as protocol
from .bodies import disconnected, form_of, read_body
from .errors import RETRY_SECONDS, NotFound, message_of, outcome_of
from .metrics import CONTENT_TYPE
from .models import PLATFORM, Model
from .openapi import document
from .page import answer, render, status
from .schemas import (
    Embedding,
    EmbeddingsAnswer,
    EmbeddingsRequest,
    Error,
    OpenAiError,
    OpenAiErrorBody,
    PredictAnswer,
    PredictRequest,
    Usage,
    decode,
    encode,
)
from .service import Service
from .work import finished, off_loop

Endpoint = Callable[[Request], Awaitable[Response]]


def make_app(service: Service, version: str) -> Starlette:
    """The application that answers for a service."""
    routes = Routes(service, version)
    versioned = "/v2/models/{name}/versions/{version}"

    def route(path: str, handler: Endpoint, method: str = "GET", error: Any = None) -> Route:
        return Route(path, _told(handler, error or _error), methods=[method])

    app = Starlette(
        routes=[
            route("/v2/health/live", routes.live),
            route("/v2/health/ready", routes.ready),
            route("/v2", routes.metadata),
            *(route(path, routes.model_metadata) for path in ("/v2/models/{name}", versioned)),
            *(route(f"{path}/ready", routes.model_ready) for path in ("/v2/models/{name}", versioned)),
            *(route(f"{path}/infer", routes.infer, "POST") for path in ("/v2/models/{name}", versioned)),
            route("/predict", routes.predict, "POST"),
            route("/v1/embeddings", routes.embeddings, "POST", _openai_error),
            route("/v1/models", routes.list_models, "GET", _openai_error),
            route("/openapi.json", routes.openapi),
            route("/metrics", routes.metrics),
            route("/status.json", routes.status),
            route("/", routes.page),
            route("/", routes.page_with_answer, "POST"),
        ],
        exception_handlers={404: _no_page, 405: _no_method},
    )
    app.router.redirect_slashes = False  # it would send clients to whatever host they named
    return app


class Routes:
    """The endpoints."""

    def __init__(self, service: Service, version: str) -> None:
        self._service, self._version = service, version

    async def live(self, request: Request) -> Response:
        return Response()

    async def ready(self, request: Request) -> Response:
        return Response(status_code=200 if self._service.ready else 503)

    async def metadata(self, request: Request) -> Response:
        return _json({"name": PLATFORM, "version": self._version, "extensions": ["binary_tensor_data"]})

    async def model_ready(self, request: Request) -> Response:
        self._model(request)
        return Response(status_code=200 if self._service.ready else 503)

    async def model_metadata(self, request: Request) -> Response:
        model = self._model(request)

        def tensors(described: list[tuple[str, str, list[int]]]) -> list[dict[str, Any]]:
            return [{"name": name, "datatype": kind, "shape": shape} for name, kind, shape in described]

        return _json(
            {
                "name": model.name,
                "versions": self._service.models.versions(model.name),
                "platform": PLATFORM,
                "inputs": tensors(model.inputs()),
                "outputs": tensors(model.outputs()),
            }
        )

    async def infer(self, request: Request) -> Response:
        with self._service.request("v2", request.headers) as ticket:
            model = ticket.model = self._model(request)
            body = await self._body(request)
            length = request.headers.get(protocol.LENGTH_HEADER)
            asked, tensors = await off_loop(len(body), protocol.read_request, body, length)
            names, timeout = protocol.names_of(asked), protocol.timeout_of(asked)
            results = await finished(model.infer(tensors, names, timeout), disconnected(request))
            size = sum(values.nbytes for values in results.values())
            content, headers = await off_loop(size, protocol.write_answer, model, asked, results)
            return Response(content, headers=headers)

    async def predict(self, request: Request) -> Response:
        with self._service.request("predict", request.headers) as ticket:
            body = await self._body(request)
            asked: PredictRequest = await off_loop(len(body), decode, PredictRequest, body)
            model = ticket.model = self._service.models.find(asked.model)
            items, options = _items(model, asked)
            answers = await finished(model.answers(items, **options), disconnected(request))
            # A mask's candidates each hold the whole text; a vector is longer than most.
            size = sum(one.nbytes if isinstance(one, np.ndarray) else 1024 for one in answers)
            size += len(body) * (asked.top_k or 5)
            return await off_loop(size, _predicted, model, answers)

    async def embeddings(self, request: Request) -> Response:
        with self._service.request("embeddings", request.headers) as ticket:
            body = await self._body(request)
            asked: EmbeddingsRequest = await off_loop(len(body), decode, EmbeddingsRequest, body)
            model = ticket.model = self._service.models.find(asked.model)
            if model.manifest.task != MODEL:
                raise InputError(
                    f"{model.name} is a {model.manifest.task} model, which embeds nothing; use /predict"
                )
            if asked.encoding_format not in ("float", "base64"):
                raise InputError(
                    f"encoding_format is {asked.encoding_format[:20]!r}; float and base64 are known"
                )
            width = model.manifest.config.hidden_size
            if asked.dimensions not in (None, width):
                raise InputError(f"dimensions is {asked.dimensions}; this model's vectors have {width}")
            texts = [asked.input] if isinstance(asked.input, str) else asked.input
            vectors = await finished(model.answers(texts), disconnected(request))
            tokens = sum(await asyncio.to_thread(model.predictor.count_tokens, texts))
            size = 4 * width * len(vectors)
            return await off_loop(size, _embedded, model, vectors, tokens, asked.encoding_format == "base64")

    async def list_models(self, request: Request) -> Response:
        created = int(self._service.started)
        names = dict.fromkeys(model.name for model in self._service.models)
        data = [{"id": name, "object": "model", "created": created, "owned_by": PLATFORM} for name in names]
        return _json({"object": "list", "data": data})

    async def openapi(self, request: Request) -> Response:
        return _json(document(self._version))

    async def metrics(self, request: Request) -> Response:
        return Response(self._service.metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def status(self, request: Request) -> Response:
        return _json(status(self._service))

    async def page(self, request: Request) -> Response:
        return render(self._service, self._version)

    async def page_with_answer(self, request: Request) -> Response:
        name, text, code = "", "", 200
        try:
            with self._service.request("page", request.headers) as ticket:
                name, text = form_of(await self._body(request), ("model", "text"))
                model = ticket.model = self._service.models.find(name or None)
                answered = await finished(answer(model, text), disconnected(request))
        except AlbertError as error:
            answered, code = message_of(error), outcome_of(error).status
        return render(self._service, self._version, name, text, answered, code)

    def _model(self, request: Request) -> Model:
        return self._service.models.find(request.path_params["name"], request.path_params.get("version"))

    async def _body(self, request: Request) -> bytes:
        limits = self._service.limits
        return await read_body(request, limits.body_bytes, limits.timeout)


def _items(model: Model, asked: PredictRequest) -> tuple[list[Any], dict[str, Any]]:
    """What the task's method takes, and its options; InputError if something else was given."""
    task, options = model.manifest.task, dict[str, Any](truncate=asked.truncate)
    given = {
        name
        for name in ("text", "texts", "question", "context", "prompt", "choices")
        if getattr(asked, name) is not None
    }
    if task == QUESTION_ANSWERING:
        wanted: list[set[str]] = [{"question", "context"}]
        del options["truncate"]
    elif task == MULTIPLE_CHOICE:
        wanted = [{"prompt", "choices"}]
    else:
        wanted = [{"text"}, {"texts"}]
    if given not in wanted:
        forms = " or ".join(" and ".join(sorted(names)) for names in wanted)
        raise InputError(
            f"{model.name} is a {task} model: give {forms}, not {', '.join(sorted(given)) or 'nothing'}"
        )
    if asked.top_k is not None:
        options["top_k"] = asked.top_k
    if task == QUESTION_ANSWERING:
        return [(asked.question, asked.context)], options
    if task == MULTIPLE_CHOICE:
        return [(asked.prompt, asked.choices)], options
    texts = [asked.text] if asked.texts is None else asked.texts
    return [tuple(text) if isinstance(text, list) else text for text in texts], options


def _predicted(model: Model, answers: list[Any]) -> Response:
    plain = [one.tolist() if isinstance(one, np.ndarray) else one for one in answers]
    return _json(PredictAnswer(model.name, model.manifest.task, plain))


def _embedded(model: Model, vectors: list[Any], tokens: int, in_base64: bool) -> Response:
    data = [Embedding(index, _vector(vector, in_base64)) for index, vector in enumerate(vectors)]
    return _json(EmbeddingsAnswer(data, model.name, Usage(tokens, tokens)))


def _vector(vector: Any, in_base64: bool) -> "list[float] | str":
    if in_base64:
        return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    values: list[float] = vector.tolist()
    return values


def _told(endpoint: Endpoint, error: Callable[[Exception], Any]) -> Endpoint:
    """The endpoint, its errors told in the terms of its protocol."""

    async def told(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Exception as failure:
            outcome = outcome_of(failure)
            headers = {"retry-after": str(RETRY_SECONDS)} if outcome.retry else {}
            return _json(error(failure), outcome.status, headers)

    return told


def _error(failure: Exception) -> Error:
    return Error(message_of(failure))


def _openai_error(failure: Exception) -> OpenAiError:
    outcome = outcome_of(failure)
    kind = "server_error" if outcome.status >= 500 else "invalid_request_error"
    return OpenAiError(OpenAiErrorBody(message_of(failure), kind, outcome.name))


async def _no_page(request: Request, error: Exception) -> Response:
    return _json(_error(NotFound(f"there is no {request.scope['path'][:200]}; see /openapi.json")), 404)


async def _no_method(request: Request, error: Exception) -> Response:
    told = _error(NotFound(f"{request.scope['path'][:200]} does not take {request.method}"))
    return _json(told, 405, getattr(error, "headers", None))


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(encode(content), status, {"content-type": "application/json", **(headers or {})})
