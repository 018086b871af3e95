"""The Open Inference Protocol over gRPC."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
import grpc.aio
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError

from ..concurrency import run_off_loop_if_large, run_with_deadline
from ..errors import MalformedRequest, NotFound, Unavailable, client_message, outcome_of
from ..model import Model
from ..model_config import model_config
from ..model_metadata import EXTENSIONS, PLATFORM, TensorMetadata
from ..request_parameters import (
    check_load_parameters,
    check_output_parameters,
    timeout_seconds,
    truncate_flag,
)
from ..service import Service
from ..tensors import BYTES, Tensor, from_bytes, from_values, to_bytes
from .messages import HEALTH_SERVICE, MESSAGES, NOT_SERVING, SERVICE, SERVING

API = "grpc"
_EXTRA_RPCS = 64  # for health checks and metadata, when max_concurrency requests are in progress
# Where a request holds the values of a tensor that it does not send as raw bytes.
_CONTENTS_FIELDS = {
    "INT64": "int64_contents",
    "INT32": "int_contents",
    BYTES: "bytes_contents",
}

Handler = Callable[[Any, Any], Awaitable[Any]]


def make_server(service: Service, version: str) -> grpc.aio.Server:
    """Make the gRPC server, which has no port yet.

    Args:
        service: The service whose models answer.
        version: The version that the server reports.
    """
    handlers = _Handlers(service, version)
    methods = {
        "ServerLive": handlers.live,
        "ServerReady": handlers.ready,
        "ModelReady": handlers.model_ready,
        "ServerMetadata": handlers.server_metadata,
        "ModelMetadata": handlers.model_metadata,
        "ModelInfer": handlers.infer,
        "ModelConfig": handlers.model_config,
        "ModelStatistics": handlers.model_statistics,
        "RepositoryIndex": handlers.repository_index,
        "RepositoryModelLoad": handlers.load,
        "RepositoryModelUnload": handlers.unload,
    }
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", service.limits.max_body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # listening on a port that is taken fails
        ],
        # A message is received before it is admitted, so gRPC has to bound their number too.
        maximum_concurrent_rpcs=service.limits.max_concurrency + _EXTRA_RPCS,
    )
    inference = {name: _method(f"{name}Request", handler) for name, handler in methods.items()}
    health = {"Check": _method("HealthCheckRequest", handlers.health)}
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(SERVICE, inference),
            grpc.method_handlers_generic_handler(HEALTH_SERVICE, health),
        ]
    )
    return server


def _method(message: str, handler: Handler) -> Any:
    """A gRPC method: parses the request, calls the handler, reports errors."""
    parse = MESSAGES[message].FromString

    async def call(body: bytes, context: Any) -> Any:
        try:
            # Parsed here rather than by gRPC, which would log a malformed message as a server error.
            try:
                request = await run_off_loop_if_large(len(body), parse, body)
            except DecodeError:
                raise MalformedRequest(f"the message is not a valid {message}") from None
            return await handler(request, context)
        except Exception as error:
            code = getattr(grpc.StatusCode, outcome_of(error).grpc)
            await context.abort(code, client_message(error))

    return grpc.unary_unary_rpc_method_handler(
        call,
        response_serializer=lambda message: message.SerializeToString(),
    )


class _Handlers:
    def __init__(self, service: Service, version: str) -> None:
        self._service, self._version = service, version

    async def live(self, request: Any, context: Any) -> Any:
        return MESSAGES["ServerLiveResponse"](live=True)

    async def ready(self, request: Any, context: Any) -> Any:
        return MESSAGES["ServerReadyResponse"](ready=self._service.ready)

    async def health(self, request: Any, context: Any) -> Any:
        if request.service not in ("", SERVICE):  # "" is the whole server
            raise NotFound(f"there is no service {request.service!r}; this server has {SERVICE}")
        return MESSAGES["HealthCheckResponse"](status=SERVING if self._service.ready else NOT_SERVING)

    async def model_ready(self, request: Any, context: Any) -> Any:
        try:
            self._service.models.find(request.name, request.version)
        except (
            NotFound,
            Unavailable,
        ):  # not an error, as in Triton: clients poll for a model that is yet to be loaded
            return MESSAGES["ModelReadyResponse"](ready=False)
        return MESSAGES["ModelReadyResponse"](ready=self._service.ready)

    async def server_metadata(self, request: Any, context: Any) -> Any:
        return MESSAGES["ServerMetadataResponse"](name=PLATFORM, version=self._version, extensions=EXTENSIONS)

    async def model_metadata(self, request: Any, context: Any) -> Any:
        models = self._service.models
        model = models.find(request.name, request.version)

        def tensors(metadata: Sequence[TensorMetadata]) -> list[Any]:
            return [MESSAGES["TensorMetadata"](**tensor._asdict()) for tensor in metadata]

        return MESSAGES["ModelMetadataResponse"](
            name=model.name,
            versions=models.versions(model.name),
            platform=PLATFORM,
            inputs=tensors(model.inputs()),
            outputs=tensors(model.outputs()),
        )

    async def model_config(self, request: Any, context: Any) -> Any:
        config = model_config(self._service.models.find(request.name, request.version))
        return ParseDict({"config": config}, MESSAGES["ModelConfigResponse"]())

    async def model_statistics(self, request: Any, context: Any) -> Any:
        models = self._service.models.find_all(request.name, request.version)
        return ParseDict(self._service.statistics.report(models), MESSAGES["ModelStatisticsResponse"]())

    async def repository_index(self, request: Any, context: Any) -> Any:
        index = self._service.models.index(ready=request.ready)
        return ParseDict({"models": index}, MESSAGES["RepositoryIndexResponse"]())

    async def load(self, request: Any, context: Any) -> Any:
        self._service.check_ready()
        check_load_parameters(request.parameters)
        await self._service.loader.load(request.model_name)
        return MESSAGES["RepositoryModelLoadResponse"]()

    async def unload(self, request: Any, context: Any) -> Any:
        self._service.check_ready()
        await self._service.loader.unload(request.model_name)
        return MESSAGES["RepositoryModelUnloadResponse"]()

    async def infer(self, request: Any, context: Any) -> Any:
        headers = {name: value for name, value in context.invocation_metadata() if isinstance(value, str)}
        with self._service.admit(API, headers) as active:
            model = active.model = self._service.models.find(request.model_name, request.model_version)
            for output in request.outputs:
                check_output_parameters(output.name, _given(output.parameters))
            outputs = [output.name for output in request.outputs] or None
            parameters = _given(request.parameters)
            timeout = self._service.limits.answer_timeout(_requested_timeout(parameters, context))
            truncate = truncate_flag(parameters.get("truncate"))
            tensors = await run_off_loop_if_large(request.ByteSize(), _parse_tensors, request)
            results = await run_with_deadline(model.infer(tensors, outputs, truncate), timeout)
            size = sum(values.nbytes for values in results.values())
            return await run_off_loop_if_large(size, _infer_response, model, request, results)


def _given(parameters: Any) -> dict[str, Any]:
    """The parameters that have a value, by name."""
    kinds = {name: item.WhichOneof("parameter_choice") for name, item in parameters.items()}
    return {name: getattr(parameters[name], kind) for name, kind in kinds.items() if kind is not None}


def _requested_timeout(parameters: dict[str, Any], context: Any) -> float | None:
    """Seconds that the client allows: the call's deadline or the parameter ``timeout``, the shorter one."""
    given = (context.time_remaining(), timeout_seconds(parameters.get("timeout")))
    seconds = [value for value in given if value is not None]
    return min(seconds) if seconds else None


def _parse_tensors(request: Any) -> list[Tensor]:
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise MalformedRequest(
            f"the request has {len(request.inputs)} inputs but {len(raw)} raw_input_contents"
        )
    tensors = []
    for index, item in enumerate(request.inputs):
        if raw:
            tensors.append(from_bytes(item.name, item.datatype, item.shape, raw[index]))
            continue
        field = _CONTENTS_FIELDS.get(item.datatype)
        values = [] if field is None else list(getattr(item.contents, field))
        tensors.append(from_values(item.name, item.datatype, item.shape, values))
    return tensors


def _infer_response(model: Model, request: Any, results: dict[str, Any]) -> Any:
    response = MESSAGES["ModelInferResponse"](
        model_name=model.name, model_version=model.version, id=request.id
    )
    for name, values in results.items():
        response.outputs.add(name=name, datatype="FP32", shape=values.shape)
        response.raw_output_contents.append(to_bytes(values))
    return response
