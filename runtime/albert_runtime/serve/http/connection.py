"""HTTP connections with bounds on what comes before and after a body, and on what nobody reads.

The body's own are the application's.
"""

import asyncio
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..limits import Limits

_MAX_BYTES = 65536  # of a request's line and headers


class Connection(HttpToolsProtocol):
    """uvicorn's, which would wait without end for headers, for the rest of a body that was refused, and for a
    client to read; each has ``seconds`` here.
    """

    seconds: float

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A new connection: its first request has to come."""
        super().connection_made(transport)
        self._in_head, self._size = True, 0
        self._timer: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        self._unwatch()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """More of a request."""
        if self._in_head:
            self._size += len(data)
            self._watch()
        super().data_received(data)
        if self._in_head and self._size > _MAX_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's headers are too long.")
        elif self.cycle is not None and self.cycle.response_complete:
            self._watch()  # of a body that was answered before its end: uvicorn has stopped its own timer

    def on_headers_complete(self) -> None:
        """What follows is a body."""
        self._in_head = False
        self._unwatch()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """What follows is the next request."""
        super().on_message_complete()
        self._in_head, self._size = True, 0

    def pause_writing(self) -> None:
        """The client does not read as fast as it is answered."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(self.seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """It has read."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.seconds, self._give_up)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._watch()  # an answer to the request before is on its way
        elif not self.transport.is_closing():
            self.transport.close()


def config(app: Any, limits: Limits) -> uvicorn.Config:
    """uvicorn as this server uses it."""

    class Timed(Connection):
        seconds = limits.timeout

    return uvicorn.Config(
        app,
        http=Timed,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=limits.keep_alive,  # type: ignore[arg-type]  # any number to loop.call_later
    )
