"""Work beside the event loop, and work that nobody may wait for any more."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ..errors import DeadlineExceeded
from .errors import Gone, Unavailable

T = TypeVar("T")

_INLINE_BYTES = 16384  # JSON and tensors of more are read and written on another thread


async def off_loop(size: int, function: Callable[..., T], *arguments: Any) -> T:
    """Call it, on another thread where so many bytes take long enough to hold others up."""
    if size <= _INLINE_BYTES:
        return function(*arguments)
    return await asyncio.to_thread(function, *arguments)


async def finished(
    work: Coroutine[Any, Any, T], seconds: float, gone: Coroutine[Any, Any, None] | None = None
) -> T:
    """The result of the work, which is cancelled if the client goes first, so that what waits is dropped.

    DeadlineExceeded after so many seconds; Unavailable if the work was given up by the server.
    """
    working = asyncio.ensure_future(work)
    leaving = None if gone is None else asyncio.ensure_future(gone)
    first = {working} if leaving is None else {working, leaving}
    try:
        done, _ = await asyncio.wait(first, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise DeadlineExceeded(f"not answered within {seconds:g} s")
        if not working.done():
            raise Gone("the client closed the connection")
        if working.cancelled():
            raise Unavailable("this server is going down")
        return working.result()
    finally:
        working.cancel()
        if leaving is not None:
            leaving.cancel()
