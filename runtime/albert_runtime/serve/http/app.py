"""The HTTP side: routes, their bodies and their errors."""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ...artifact.tasks import MODEL, MULTIPLE_CHOICE, QUESTION_ANSWERING
from ...errors import InputError
from ..concurrency import finished, off_loop
from ..errors import RETRY_SECONDS, message_of, outcome_of
from ..metrics import CONTENT_TYPE
from ..models import PLATFORM, Model
from ..service import Service, Ticket
from . import inference as protocol
from .bodies import disconnected, form_of, read_body, send_in_slices
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

T = TypeVar("T")
Handler = Callable[..., Awaitable[Response]]  # of the request, and of its ticket where it is let in
ErrorAnswer = Callable[[Request, Exception], Response]


def make_app(service: Service, version: str) -> Starlette:
    """The application that answers for a service."""
    routes = Routes(service, version)
    versioned = "/v2/models/{name}/versions/{version}"

    def get(path: str, handler: Handler, error: ErrorAnswer = _error) -> Route:
        return Route(path, _Endpoint(service, None, handler, error), methods=["GET"])

    def post(path: str, api: str, handler: Handler, error: ErrorAnswer = _error) -> Route:
        return Route(path, _Endpoint(service, api, handler, error), methods=["POST"])

    app = Starlette(
        routes=[
            get("/v2/health/live", routes.live),
            get("/v2/health/ready", routes.ready),
            get("/v2", routes.metadata),
            *(get(path, routes.model_metadata) for path in ("/v2/models/{name}", versioned)),
            *(get(f"{path}/ready", routes.model_ready) for path in ("/v2/models/{name}", versioned)),
            *(post(f"{path}/infer", "v2", routes.infer) for path in ("/v2/models/{name}", versioned)),
            post("/predict", "predict", routes.predict),
            post("/v1/embeddings", "embeddings", routes.embeddings, _openai_error),
            get("/v1/models", routes.list_models, _openai_error),
            get("/openapi.json", routes.openapi),
            get("/metrics", routes.metrics),
            get("/status.json", routes.status),
            get("/", routes.page),
            post("/", "page", routes.page_with_answer, routes.page_with_error),
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

    async def infer(self, request: Request, ticket: Ticket) -> Response:
        model = ticket.model = self._model(request)
        body = await self._body(request)
        length = request.headers.get(protocol.LENGTH_HEADER)
        asked, tensors = await off_loop(len(body), protocol.read_request, body, length)
        names, timeout = protocol.names_of(asked), protocol.timeout_of(asked.parameters.get("timeout"))
        results = await self._finished(request, model.infer(tensors, names), timeout)
        size = sum(values.nbytes for values in results.values())
        content, headers = await off_loop(size, protocol.write_answer, model, asked, results)
        return Response(content, headers=headers)

    async def predict(self, request: Request, ticket: Ticket) -> Response:
        body = await self._body(request)
        asked: PredictRequest = await off_loop(len(body), decode, PredictRequest, body)
        model = ticket.model = self._service.models.find(asked.model)
        items, options = _items(model, asked)
        answers = await self._finished(request, model.answers(items, **options))
        # A mask's candidates each hold the whole text; a vector is longer than most.
        size = sum(one.nbytes if isinstance(one, np.ndarray) else 1024 for one in answers)
        size += len(body) * (asked.top_k or 5)
        return await off_loop(size, _predicted, model, answers)

    async def embeddings(self, request: Request, ticket: Ticket) -> Response:
        body = await self._body(request)
        asked: EmbeddingsRequest = await off_loop(len(body), decode, EmbeddingsRequest, body)
        model = ticket.model = self._service.models.find(asked.model)
        if model.manifest.task != MODEL:
            raise InputError(
                f"{model.name} is a {model.manifest.task} model, which embeds nothing; use /predict"
            )
        if asked.encoding_format not in ("float", "base64"):
            raise InputError(f"encoding_format is {asked.encoding_format[:20]!r}; float and base64 are known")
        width = model.manifest.config.hidden_size
        if asked.dimensions not in (None, width):
            raise InputError(f"dimensions is {asked.dimensions}; this model's vectors have {width}")
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        vectors = await self._finished(request, model.answers(texts))
        tokens = sum(await asyncio.to_thread(model.predictor.count_tokens, texts))
        size = 4 * width * len(vectors)
        return await off_loop(size, _embedded, model, vectors, tokens, asked.encoding_format == "base64")

    async def list_models(self, request: Request) -> Response:
        created = int(self._service.started)
        names = dict.fromkeys(model.name for model in self._service.models)
        data = [{"id": name, "object": "model", "created": created, "owned_by": PLATFORM} for name in names]
        return _json({"object": "list", "data": data})

    async def openapi(self, request: Request) -> Response:
        models = self._service.models
        versions = {model.name: models.versions(model.name) for model in models}
        return _json(document(self._version, versions))

    async def metrics(self, request: Request) -> Response:
        return Response(self._service.metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def status(self, request: Request) -> Response:
        return _json(status(self._service))

    async def page(self, request: Request) -> Response:
        return render(self._service, self._version)

    async def page_with_answer(self, request: Request, ticket: Ticket) -> Response:
        name, text = form_of(await self._body(request), ("model", "text"))
        request.state.asked = name, text
        model = ticket.model = self._service.models.find(name or None)
        answered = await self._finished(request, answer(model, text))
        return render(self._service, self._version, name, text, answered)

    def page_with_error(self, request: Request, failure: Exception) -> Response:
        name, text = getattr(request.state, "asked", ("", ""))
        code = outcome_of(failure).status
        return render(self._service, self._version, name, text, message_of(failure), code)

    def _model(self, request: Request) -> Model:
        return self._service.models.find(request.path_params["name"], request.path_params.get("version"))

    async def _finished(
        self, request: Request, work: Coroutine[Any, Any, T], timeout: float | None = None
    ) -> T:
        return await finished(work, self._service.limits.seconds(timeout), disconnected(request))

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


class _Endpoint:
    """A route's handler: let in where it is counted (``api``), its errors told in its protocol's terms."""

    def __init__(self, service: Service, api: str | None, handler: Handler, error: ErrorAnswer) -> None:
        self._service, self._api, self._handler, self._error = service, api, handler, error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            if self._api is None:
                await send_in_slices(await self._handler(request), send)
            else:
                with self._service.request(self._api, request.headers) as ticket:
                    # Sent within: a client that reads slowly keeps its place in the server.
                    await send_in_slices(await self._handler(request, ticket), send)
        except Exception as failure:
            outcome = outcome_of(failure)
            response = self._error(request, failure)
            response.status_code = outcome.status
            if outcome.retry:
                response.headers["retry-after"] = str(RETRY_SECONDS)
            await send_in_slices(response, send)


def _error(request: Request, failure: Exception) -> Response:
    return _json(Error(message_of(failure)))


def _openai_error(request: Request, failure: Exception) -> Response:
    outcome = outcome_of(failure)
    kind = "server_error" if outcome.status >= 500 else "invalid_request_error"
    return _json(OpenAiError(OpenAiErrorBody(message_of(failure), kind, outcome.name)))


async def _no_page(request: Request, error: Exception) -> Response:
    return _json(Error(f"there is no {request.scope['path'][:200]}; see /openapi.json"), 404)


async def _no_method(request: Request, error: Exception) -> Response:
    told = Error(f"{request.scope['path'][:200]} does not take {request.method}")
    return _json(told, 405, getattr(error, "headers", None))


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(encode(content), status, {"content-type": "application/json", **(headers or {})})
