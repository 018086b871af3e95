"""The handlers of the HTTP routes: each makes the response to one kind of request."""

import base64
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from ...artifact.tasks import MODEL, MULTIPLE_CHOICE, QUESTION_ANSWERING
from ...errors import InputError
from ..concurrency import run_off_loop_if_large, run_with_deadline
from ..errors import client_message, outcome_of
from ..metrics import CONTENT_TYPE
from ..model import Model
from ..model_metadata import EXTENSIONS, PLATFORM, TensorMetadata
from ..request_parameters import timeout_seconds, truncate_flag
from ..service import ActiveRequest, Service
from .bodies import form_fields, read_body, wait_for_disconnect
from .inference import LENGTH_HEADER, encode_answer, parse_request, requested_outputs
from .openapi import openapi_document
from .page import Form, answer_text, render_page, status_json
from .responses import json_response
from .schemas import (
    Document,
    Embedding,
    EmbeddingsAnswer,
    EmbeddingsRequest,
    PredictAnswer,
    PredictRequest,
    RankedDocument,
    RerankAnswer,
    RerankRequest,
    Usage,
    decode,
)

T = TypeVar("T")

_ENCODING_FORMATS = ("float", "base64")
_DEFAULT_TOP_K = 5
# The fields of /predict that are options of the methods, beside truncate.
_OPTIONS = (
    *("top_k", "activation", "targets", "stride", "max_tokens", "allow_no_answer"),
    *("pooling", "normalize", "prompt_name", "dimensions"),
)
_ANSWER_BYTES = 1024  # of one answer of /predict in JSON, roughly


class Handlers:
    """The handlers. Those that answer with a model take the admitted request too, and set its model."""

    def __init__(self, service: Service, version: str) -> None:
        self._service, self._version = service, version

    async def live(self, request: Request) -> Response:
        return Response()

    async def ready(self, request: Request) -> Response:
        self._service.check_ready()
        return Response()

    async def server_metadata(self, request: Request) -> Response:
        return json_response({"name": PLATFORM, "version": self._version, "extensions": EXTENSIONS})

    async def model_ready(self, request: Request) -> Response:
        self._model_in_path(request)
        self._service.check_ready()
        return Response()

    async def model_metadata(self, request: Request) -> Response:
        model = self._model_in_path(request)

        def tensors(metadata: Sequence[TensorMetadata]) -> list[dict[str, Any]]:
            return [tensor._asdict() for tensor in metadata]

        return json_response(
            {
                "name": model.name,
                "versions": self._service.models.versions(model.name),
                "platform": PLATFORM,
                "inputs": tensors(model.inputs()),
                "outputs": tensors(model.outputs()),
            }
        )

    async def infer(self, request: Request, active: ActiveRequest) -> Response:
        model = active.model = self._model_in_path(request)
        body = await self._read_body(request)
        length = request.headers.get(LENGTH_HEADER)
        parsed, tensors = await run_off_loop_if_large(len(body), parse_request, body, length)
        parameters = parsed.parameters or {}
        outputs, timeout = requested_outputs(parsed), timeout_seconds(parameters.get("timeout"))
        work = model.infer(tensors, outputs, truncate_flag(parameters.get("truncate")))
        results = await self._with_deadline(request, work, timeout)
        size = sum(values.nbytes for values in results.values())
        content, headers = await run_off_loop_if_large(size, encode_answer, model, parsed, results)
        return Response(content, headers=headers)

    async def predict(self, request: Request, active: ActiveRequest) -> Response:
        body = await self._read_body(request)
        parsed: PredictRequest = await run_off_loop_if_large(len(body), decode, PredictRequest, body)
        model = active.model = self._service.models.find(parsed.model)
        items, options = _items_and_options(model, parsed)
        answers, _ = await self._with_deadline(request, model.answer(items, parsed.truncate, **options))
        size = sum(one.nbytes if isinstance(one, np.ndarray) else _ANSWER_BYTES for one in answers)
        size += len(body) * (parsed.top_k or _DEFAULT_TOP_K)  # candidates for a mask each repeat the text
        return await run_off_loop_if_large(size, _predict_response, model, answers)

    async def embeddings(self, request: Request, active: ActiveRequest) -> Response:
        body = await self._read_body(request)
        parsed: EmbeddingsRequest = await run_off_loop_if_large(len(body), decode, EmbeddingsRequest, body)
        model = active.model = self._service.models.find(parsed.model)
        if model.manifest.task != MODEL:
            raise InputError(
                f"{model.name} is a {model.manifest.task} model and has no embeddings; use /predict"
            )
        encoding = parsed.encoding_format or _ENCODING_FORMATS[0]
        if encoding not in _ENCODING_FORMATS:
            raise InputError(f"encoding_format is {encoding[:20]!r}; use {' or '.join(_ENCODING_FORMATS)}")
        options = {"prompt_name": parsed.prompt_name, "dimensions": parsed.dimensions}
        work = model.answer(_inputs(parsed.input), parsed.truncate, **options)
        vectors, tokens = await self._with_deadline(request, work)
        size = sum(vector.nbytes for vector in vectors)
        as_base64 = encoding == "base64"
        return await run_off_loop_if_large(size, _embeddings_response, model, vectors, tokens, as_base64)

    async def rerank(self, request: Request, active: ActiveRequest) -> Response:
        body = await self._read_body(request)
        parsed: RerankRequest = await run_off_loop_if_large(len(body), decode, RerankRequest, body)
        model = active.model = self._service.models.find(parsed.model)
        documents = [one if isinstance(one, str) else one.text for one in parsed.documents]
        work = model.rerank(parsed.query, documents, parsed.truncate, parsed.top_n)
        ranking, tokens = await self._with_deadline(request, work)
        results = [
            RankedDocument(
                one["index"],
                one["score"],
                Document(documents[one["index"]]) if parsed.return_documents else None,
            )
            for one in ranking
        ]
        answer = RerankAnswer(model.name, results, Usage(tokens, tokens))
        return await run_off_loop_if_large(len(body), json_response, answer)

    async def list_models(self, request: Request) -> Response:
        created = int(self._service.started)
        names = dict.fromkeys(model.name for model in self._service.models)
        data = [{"id": name, "object": "model", "created": created, "owned_by": PLATFORM} for name in names]
        return json_response({"object": "list", "data": data})

    async def openapi(self, request: Request) -> Response:
        versions: dict[str, list[str]] = {}
        for entry in self._service.models.entries:
            versions.setdefault(entry.name, []).append(entry.version)
        return json_response(openapi_document(self._version, versions))

    async def metrics(self, request: Request) -> Response:
        return Response(self._service.metrics.exposition(), headers={"content-type": CONTENT_TYPE})

    async def status(self, request: Request) -> Response:
        return json_response(status_json(self._service))

    async def page(self, request: Request) -> Response:
        return render_page(self._service, self._version)

    async def page_with_answer(self, request: Request, active: ActiveRequest) -> Response:
        body = await self._read_body(request)
        name, text, truncate = form_fields(body, ("model", "text", "truncate"))
        form = request.state.form = Form(name, text, bool(truncate))
        model = active.model = self._service.models.find(form.model or None)
        answer = await self._with_deadline(request, answer_text(model, form))
        return render_page(self._service, self._version, form, answer)

    def page_with_error(self, request: Request, error: Exception) -> Response:
        form = getattr(request.state, "form", Form())
        return render_page(
            self._service, self._version, form, client_message(error), outcome_of(error).status
        )

    def _model_in_path(self, request: Request) -> Model:
        return self._service.models.find(request.path_params["name"], request.path_params.get("version"))

    async def _with_deadline(
        self, request: Request, work: Coroutine[Any, Any, T], timeout: float | None = None
    ) -> T:
        seconds = self._service.limits.answer_timeout(timeout)
        return await run_with_deadline(work, seconds, wait_for_disconnect(request))

    async def _read_body(self, request: Request) -> bytes:
        limits = self._service.limits
        return await read_body(request, limits.max_body_bytes, limits.timeout)


def _items_and_options(model: Model, parsed: PredictRequest) -> tuple[list[Any], dict[str, Any]]:
    """What the method for the model's task takes; InputError if the request has fields of another task."""
    task = model.manifest.task
    options = {name: value for name in _OPTIONS if (value := getattr(parsed, name)) is not None}
    given = {
        name
        for name in ("text", "texts", "question", "context", "prompt", "choices")
        if getattr(parsed, name) is not None
    }
    if task == QUESTION_ANSWERING:
        accepted: list[set[str]] = [{"question", "context"}]
    elif task == MULTIPLE_CHOICE:
        accepted = [{"prompt", "choices"}]
    else:
        accepted = [{"text"}, {"texts"}]
    if given not in accepted:
        fields = " or ".join(" and ".join(sorted(names)) for names in accepted)
        raise InputError(
            f"{model.name} is a {task} model: give {fields}, not {', '.join(sorted(given)) or 'nothing'}"
        )
    if task == QUESTION_ANSWERING:
        return [(parsed.question, parsed.context)], options
    if task == MULTIPLE_CHOICE:
        return [(parsed.prompt, parsed.choices)], options
    texts = [parsed.text] if parsed.texts is None else parsed.texts
    return [tuple(text) if isinstance(text, list) else text for text in texts], options


def _inputs(given: str | list[Any]) -> list[Any]:
    """The inputs of an embeddings request: texts, lists of token ids, or both."""
    if isinstance(given, str):
        return [given]
    if all(isinstance(one, int) for one in given):
        return [given]
    if any(isinstance(one, int) for one in given):
        raise InputError("input holds token ids among others; give each input's ids in a list of its own")
    return given


def _predict_response(model: Model, answers: list[Any]) -> Response:
    as_json = [one.tolist() if isinstance(one, np.ndarray) else one for one in answers]
    return json_response(PredictAnswer(model.name, model.manifest.task, as_json))


def _embeddings_response(model: Model, vectors: list[Any], tokens: int, as_base64: bool) -> Response:
    data = [Embedding(index, _encode_vector(vector, as_base64)) for index, vector in enumerate(vectors)]
    return json_response(EmbeddingsAnswer(data, model.name, Usage(tokens, tokens)))


def _encode_vector(vector: Any, as_base64: bool) -> "list[float] | str":
    if as_base64:
        return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    values: list[float] = vector.tolist()
    return values
