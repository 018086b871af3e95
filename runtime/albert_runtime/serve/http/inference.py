"""The Open Inference Protocol over HTTP, with its binary tensor extension.

With the header Inference-Header-Content-Length a body is so many bytes of JSON, and after them the bytes of
the tensors that name a ``binary_data_size``, in their order; an answer likewise.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ...backends.base import Outputs
from ...errors import InputError
from ..errors import Malformed
from ..models import Model
from ..tensors import Tensor, from_bytes, from_values, to_bytes
from .schemas import InferAnswer, InferRequest, TensorIn, TensorOut, decode, encode

LENGTH_HEADER = "inference-header-content-length"
_SIZE = "binary_data_size"


def read_request(body: bytes, length: str | None) -> tuple[InferRequest, list[Tensor]]:
    """The JSON and the tensors of a request; Malformed says what of it is not as the protocol has it."""
    view = memoryview(body)
    json, rest = view, view[len(view) :]
    if length is not None:
        # Python refuses to read thousands of digits.
        if not (length.isascii() and length.isdigit() and len(length) < 20) or int(length) > len(view):
            raise Malformed(f"{LENGTH_HEADER} is {length[:20]!r}, the body has {len(view)} bytes")
        json, rest = view[: int(length)], view[int(length) :]
    request: InferRequest = decode(InferRequest, json)
    tensors = []
    for item in request.inputs:
        size = item.parameters.get(_SIZE)
        if size is None:
            if item.data is None:
                raise Malformed(f"input {item.name[:60]!r} has neither data nor {_SIZE}")
            tensors.append(from_values(item.name, item.datatype, item.shape, item.data))
            continue
        data, rest = _cut(item, size, rest)
        tensors.append(from_bytes(item.name, item.datatype, item.shape, data))
    if len(rest):
        raise Malformed(f"{len(rest)} bytes follow the last tensor")
    return request, tensors


def _cut(item: TensorIn, size: object, rest: memoryview) -> tuple[memoryview, memoryview]:
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(rest):
        raise Malformed(f"input {item.name[:60]!r} has {_SIZE} {str(size)[:20]}, {len(rest)} bytes are left")
    if item.data is not None:
        raise Malformed(f"input {item.name[:60]!r} has both data and {_SIZE}")
    return rest[:size], rest[size:]


def timeout_of(microseconds: object) -> float | None:
    """Seconds, from the parameter ``timeout``; Malformed if that is no whole number of microseconds."""
    if microseconds is None:
        return None
    if isinstance(microseconds, bool) or not isinstance(microseconds, int) or microseconds < 0:
        raise Malformed(f"parameter timeout is {str(microseconds)[:20]}; whole microseconds are needed")
    return microseconds / 1e6 or None  # 0 = none, as in Triton


def names_of(request: InferRequest) -> list[str] | None:
    """The outputs asked for; None = all. InputError for a form of them that is not served."""
    for output in request.outputs or ():
        check_parameters(output.name, output.parameters)
    return [output.name for output in request.outputs or ()] or None


def check_parameters(output: str, parameters: Iterable[str]) -> None:
    """InputError if an output is asked for as Triton gives it and this server does not."""
    for name in ("classification", "shared_memory_region"):
        if name in parameters:
            raise InputError(f"output {output[:60]!r} asks for {name}, which this server does not give")


def write_answer(model: Model, request: InferRequest, results: Outputs) -> tuple[bytes, dict[str, str]]:
    """The body of an answer and its headers."""
    binary = _binary_outputs(request, list(results))
    outputs, chunks = [], []
    for name, values in results.items():
        shape = list(values.shape)
        if binary[name]:
            chunks.append(to_bytes(values))
            outputs.append(TensorOut(name, shape, "FP32", {_SIZE: len(chunks[-1])}))
        else:
            outputs.append(TensorOut(name, shape, "FP32", data=values.reshape(-1).tolist()))
    json = encode(InferAnswer(model.name, model.version, outputs, request.id))
    if not chunks:
        return json, {"content-type": "application/json"}
    headers = {"content-type": "application/octet-stream", LENGTH_HEADER: str(len(json))}
    return b"".join([json, *chunks]), headers


def _binary_outputs(request: InferRequest, names: list[str]) -> Mapping[str, bool]:
    everything = request.parameters.get("binary_data_output") is True
    asked: dict[str, Any] = (
        {}
        if request.outputs is None
        else {output.name: output.parameters.get("binary_data") for output in request.outputs}
    )
    return {name: everything if asked.get(name) is None else asked[name] is True for name in names}
