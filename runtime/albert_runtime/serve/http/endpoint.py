"""One endpoint: admits the request where its API is counted, calls the handler, reports errors."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..errors import RETRY_AFTER_SECONDS, outcome_of
from ..service import Service
from .responses import send_in_chunks

Handler = Callable[..., Awaitable[Response]]  # (request), or (request, active) where requests are admitted
ErrorResponse = Callable[[Request, Exception], Response]


class Endpoint:
    """An ASGI application for one route.

    Args:
        service: The service that admits requests.
        api: The name under which requests are counted; None for health checks, metadata and the like, which
            are answered even when the server is full or not ready.
        handler: Makes the response.
        error_response: Makes the response for an error, in the terms of the API.
    """

    def __init__(
        self, service: Service, api: str | None, handler: Handler, error_response: ErrorResponse
    ) -> None:
        self._service, self._api = service, api
        self._handler, self._error_response = handler, error_response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            if self._api is None:
                await send_in_chunks(await self._handler(request), send)
            else:
                with self._service.admit(self._api, request.headers) as active:
                    # Sent within the block: until the client has read its answer, the request is in progress.
                    await send_in_chunks(await self._handler(request, active), send)
        except Exception as error:
            response = self._error_response(request, error)
            if outcome_of(error).retry:
                response.headers["retry-after"] = str(RETRY_AFTER_SECONDS)
            await send_in_chunks(response, send)
