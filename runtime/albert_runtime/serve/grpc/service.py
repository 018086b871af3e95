"""The Open Inference Protocol over gRPC."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from ..concurrency import finished, off_loop
from ..errors import Malformed, NotFound, message_of, outcome_of
from ..http.inference import check_parameters, timeout_of
from ..models import PLATFORM, Model
from ..service import Service
from ..tensors import BYTES, Tensor, from_bytes, from_values, to_bytes
from .messages import HEALTH_SERVICE, MESSAGES, NOT_SERVING, SERVICE, SERVING

API = "grpc"
_MAX_PROBES = 64
_CONTENTS = {
    "INT64": "int64_contents",
    "INT32": "int_contents",
    BYTES: "bytes_contents",
}

Handler = Callable[[Any, Any], Awaitable[Any]]


def make_server(service: Service, version: str) -> grpc.aio.Server:
    """A server without a port."""
    handlers = _Handlers(service, version)
    methods = {
        "ServerLive": handlers.live,
        "ServerReady": handlers.ready,
        "ModelReady": handlers.model_ready,
        "ServerMetadata": handlers.metadata,
        "ModelMetadata": handlers.model_metadata,
        "ModelInfer": handlers.infer,
    }
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", service.limits.body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # a port that is taken is an error
        ],
        # Messages are read before they are let in; the rest is for health.
        maximum_concurrent_rpcs=service.limits.concurrency + _MAX_PROBES,
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
    read = MESSAGES[message].FromString

    async def answer(body: bytes, context: Any) -> Any:
        try:
            # Here and not by gRPC, which logs what it cannot read and blames the server.
            try:
                request = await off_loop(len(body), read, body)
            except DecodeError:
                raise Malformed(f"the message is no {message}") from None
            return await handler(request, context)
        except Exception as error:
            code = getattr(grpc.StatusCode, outcome_of(error).grpc)
            await context.abort(code, message_of(error))

    return grpc.unary_unary_rpc_method_handler(
        answer,
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
            raise NotFound(f"no service {request.service!r}; there is {SERVICE}")
        return MESSAGES["HealthCheckResponse"](status=SERVING if self._service.ready else NOT_SERVING)

    async def model_ready(self, request: Any, context: Any) -> Any:
        try:
            self._service.models.find(request.name, request.version)
        except NotFound:  # no error, as in Triton: clients poll for models that are to come
            return MESSAGES["ModelReadyResponse"](ready=False)
        return MESSAGES["ModelReadyResponse"](ready=self._service.ready)

    async def metadata(self, request: Any, context: Any) -> Any:
        return MESSAGES["ServerMetadataResponse"](name=PLATFORM, version=self._version, extensions=[])

    async def model_metadata(self, request: Any, context: Any) -> Any:
        models = self._service.models
        model = models.find(request.name, request.version)
        tensors = [
            [
                MESSAGES["TensorMetadata"](name=name, datatype=datatype, shape=shape)
                for name, datatype, shape in described
            ]
            for described in (model.inputs(), model.outputs())
        ]
        return MESSAGES["ModelMetadataResponse"](
            name=model.name,
            versions=models.versions(model.name),
            platform=PLATFORM,
            inputs=tensors[0],
            outputs=tensors[1],
        )

    async def infer(self, request: Any, context: Any) -> Any:
        headers = {name: value for name, value in context.invocation_metadata() if isinstance(value, str)}
        with self._service.request(API, headers) as ticket:
            model = ticket.model = self._service.models.find(request.model_name, request.model_version)
            for output in request.outputs:
                check_parameters(output.name, output.parameters)
            names = [output.name for output in request.outputs] or None
            timeout = _timeout(request, context)
            tensors = await off_loop(request.ByteSize(), _tensors, request)
            results = await finished(model.infer(tensors, names), self._service.limits.seconds(timeout))
            size = sum(values.nbytes for values in results.values())
            return await off_loop(size, _answer, model, request, results)


def _timeout(request: Any, context: Any) -> float | None:
    """Seconds: the call's own deadline, or the parameter that Triton's clients send."""
    given = [context.time_remaining()]
    if "timeout" in request.parameters:
        parameter = request.parameters["timeout"]
        kind = parameter.WhichOneof("parameter_choice")
        given.append(timeout_of(None if kind is None else getattr(parameter, kind)))
    seconds = [value for value in given if value is not None]
    return min(seconds) if seconds else None


def _tensors(request: Any) -> list[Tensor]:
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise Malformed(f"{len(request.inputs)} inputs have {len(raw)} raw_input_contents")
    tensors = []
    for index, item in enumerate(request.inputs):
        if raw:
            tensors.append(from_bytes(item.name, item.datatype, item.shape, raw[index]))
            continue
        field = _CONTENTS.get(item.datatype)
        values = [] if field is None else list(getattr(item.contents, field))
        tensors.append(from_values(item.name, item.datatype, item.shape, values))
    return tensors


def _answer(model: Model, request: Any, results: dict[str, Any]) -> Any:
    answer = MESSAGES["ModelInferResponse"](model_name=model.name, model_version=model.version, id=request.id)
    for name, values in results.items():
        answer.outputs.add(name=name, datatype="FP32", shape=values.shape)
        answer.raw_output_contents.append(to_bytes(values))
    return answer
