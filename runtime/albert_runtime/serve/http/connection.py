"""HTTP connections with a deadline for headers and for clients that do not read, and a limit on headers.

The deadline for a body that a handler reads is in ``bodies``.
"""

import asyncio
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..limits import ServerLimits

_MAX_HEADER_BYTES = 65536  # the request line and all headers


class TimedConnection(HttpToolsProtocol):
    """uvicorn's connection with deadlines.

    uvicorn itself would wait forever for headers, for the rest of a body that was refused, and for a client
    that does not read its answer. Here each of them may take ``timeout`` seconds.
    """

    timeout: float

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock for the headers of the first request."""
        super().connection_made(transport)
        self._in_headers, self._header_bytes = True, 0
        self._read_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._start_read_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all clocks."""
        self._stop_read_timer()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read more of a request, and refuse headers that are too long."""
        if self._in_headers:
            self._header_bytes += len(data)
            self._start_read_timer()
        super().data_received(data)
        if self._in_headers and self._header_bytes > _MAX_HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's headers are too long.")
        elif self.cycle is not None and self.cycle.response_complete:
            # The rest of a body that was answered before its end: uvicorn has stopped its own timer.
            self._start_read_timer()

    def on_headers_complete(self) -> None:
        """Stop the clock for headers: a body follows."""
        self._in_headers = False
        self._stop_read_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect the headers of the next request."""
        super().on_message_complete()
        self._in_headers, self._header_bytes = True, 0

    def pause_writing(self) -> None:
        """Start the clock for a client that does not read."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.timeout, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop that clock: the client has read."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _start_read_timer(self) -> None:
        if self._read_timer is None:
            self._read_timer = self.loop.call_later(self.timeout, self._on_read_timeout)

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _on_read_timeout(self) -> None:
        self._read_timer = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._start_read_timer()  # the answer to the previous request is still being sent
        elif not self.transport.is_closing():
            self.transport.close()


def uvicorn_config(app: Any, limits: ServerLimits) -> uvicorn.Config:
    """uvicorn's configuration for this server."""

    class Connection(TimedConnection):
        timeout = limits.timeout

    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=limits.keep_alive,  # type: ignore[arg-type]  # loop.call_later takes any number
    )
