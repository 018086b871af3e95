"""Responses: JSON, errors as each API reports them, and sending them piece by piece."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Send

from ..errors import client_message, outcome_of
from .schemas import Error, OpenAiError, OpenAiErrorBody, encode

_MAX_PATH_CHARACTERS = 200
_CHUNK_BYTES = 2**18


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response in JSON."""
    return Response(encode(content), status, {"content-type": "application/json", **(headers or {})})


def error_response(request: Request, error: Exception) -> Response:
    """An error as the Open Inference Protocol reports it."""
    return json_response(Error(client_message(error)), outcome_of(error).status)


def openai_error_response(request: Request, error: Exception) -> Response:
    """An error as OpenAI's API reports it."""
    outcome = outcome_of(error)
    kind = "server_error" if outcome.status >= 500 else "invalid_request_error"
    body = OpenAiErrorBody(client_message(error), kind, outcome.name)
    return json_response(OpenAiError(body), outcome.status)


async def path_not_found(request: Request, error: Exception) -> Response:
    """404 for a path that no route has."""
    path = request.scope["path"][:_MAX_PATH_CHARACTERS]
    return json_response(Error(f"there is no path {path}; see /openapi.json for those there are"), 404)


async def method_not_allowed(request: Request, error: Exception) -> Response:
    """405 for a route that does not take the request's method."""
    path = request.scope["path"][:_MAX_PATH_CHARACTERS]
    body = Error(f"{path} does not accept {request.method}; see /openapi.json")
    return json_response(body, 405, getattr(error, "headers", None))


async def send_in_chunks(response: Response, send: Send) -> None:
    """Send a response chunk by chunk, so that a slow client holds up its own request only.

    Each chunk waits until the one before it is on its way; the connection limits how long that may take.
    """
    await send(
        {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
    )
    body = memoryview(response.body)
    for start in range(0, max(1, len(body)), _CHUNK_BYTES):
        stop = start + _CHUNK_BYTES
        message = {"body": bytes(body[start:stop]), "more_body": stop < len(body)}
        await send({"type": "http.response.body", **message})
