"""The Open Inference Protocol over HTTP, with its binary tensor extension.

With the header Inference-Header-Content-Length a body starts with that many bytes of JSON. The raw bytes of
the tensors follow, in the order of the JSON; each tensor gives its size as ``binary_data_size``. Answers have
the same form.
"""

from collections.abc import Mapping
from typing import Any

from ...backends.base import Outputs
from ..errors import MalformedRequest
from ..model import Model
from ..request_parameters import check_output_parameters
from ..tensors import Tensor, from_bytes, from_values, to_bytes
from .schemas import InferAnswer, InferRequest, TensorIn, TensorOut, decode, encode

LENGTH_HEADER = "inference-header-content-length"
_BINARY_SIZE = "binary_data_size"


def parse_request(body: bytes, length: str | None) -> tuple[InferRequest, list[Tensor]]:
    """Parse the body of an inference request.

    Args:
        body: The whole body.
        length: The header Inference-Header-Content-Length; None if the body is JSON only.

    Returns:
        The request and its input tensors.

    Raises:
        MalformedRequest: The body breaks the protocol.
    """
    view = memoryview(body)
    json, binary = view, view[len(view) :]
    if length is not None:
        # Short, because Python refuses to convert thousands of digits.
        if not (length.isascii() and length.isdigit() and len(length) < 20) or int(length) > len(view):
            raise MalformedRequest(f"{LENGTH_HEADER} is {length[:20]!r}; the body has {len(view)} bytes")
        json, binary = view[: int(length)], view[int(length) :]
    request: InferRequest = decode(InferRequest, json)
    tensors = []
    for item in request.inputs:
        size = (item.parameters or {}).get(_BINARY_SIZE)
        if size is None:
            if item.data is None:
                raise MalformedRequest(f"input {item.name[:60]!r} has neither data nor {_BINARY_SIZE}")
            tensors.append(from_values(item.name, item.datatype, item.shape, item.data))
            continue
        data, binary = _take_bytes(item, size, binary)
        tensors.append(from_bytes(item.name, item.datatype, item.shape, data))
    if len(binary):
        raise MalformedRequest(f"{len(binary)} bytes follow the last tensor")
    return request, tensors


def _take_bytes(item: TensorIn, size: object, binary: memoryview) -> tuple[memoryview, memoryview]:
    """The bytes of a tensor, and those after them."""
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(binary):
        raise MalformedRequest(
            f"input {item.name[:60]!r} has {_BINARY_SIZE} {str(size)[:20]}; {len(binary)} bytes are left"
        )
    if item.data is not None:
        raise MalformedRequest(f"input {item.name[:60]!r} has both data and {_BINARY_SIZE}")
    return binary[:size], binary[size:]


def requested_outputs(request: InferRequest) -> list[str] | None:
    """The names of the outputs requested; None for all. InputError for an unsupported form."""
    for output in request.outputs or ():
        given = (name for name, value in (output.parameters or {}).items() if value is not None)
        check_output_parameters(output.name, given)
    return [output.name for output in request.outputs or ()] or None


def encode_answer(model: Model, request: InferRequest, results: Outputs) -> tuple[bytes, dict[str, str]]:
    """The body and the headers of the answer, each output as JSON or as raw bytes, as the request asked."""
    is_binary = _is_binary(request, list(results))
    outputs, chunks = [], []
    for name, values in results.items():
        shape = list(values.shape)
        if is_binary[name]:
            chunks.append(to_bytes(values))
            outputs.append(TensorOut(name, shape, "FP32", {_BINARY_SIZE: len(chunks[-1])}))
        else:
            outputs.append(TensorOut(name, shape, "FP32", data=values.reshape(-1).tolist()))
    json = encode(InferAnswer(model.name, model.version, outputs, request.id or ""))
    if not chunks:
        return json, {"content-type": "application/json"}
    headers = {"content-type": "application/octet-stream", LENGTH_HEADER: str(len(json))}
    return b"".join([json, *chunks]), headers


def _is_binary(request: InferRequest, names: list[str]) -> Mapping[str, bool]:
    """Whether each output is to be sent as raw bytes."""
    by_default = (request.parameters or {}).get("binary_data_output") is True
    requested: dict[str, Any] = {
        output.name: (output.parameters or {}).get("binary_data") for output in request.outputs or ()
    }
    return {name: by_default if requested.get(name) is None else requested[name] is True for name in names}
