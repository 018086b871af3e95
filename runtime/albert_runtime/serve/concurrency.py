"""Keeps the event loop free of long work, and stops a request at its deadline or when its client is gone."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ..errors import DeadlineExceeded
from .errors import ClientDisconnected, Unavailable

T = TypeVar("T")

_MAX_INLINE_BYTES = 16384  # handing a smaller body to another thread takes longer than parsing it


async def run_off_loop_if_large(size: int, function: Callable[..., T], *arguments: Any) -> T:
    """Call a function that reads or writes ``size`` bytes, on another thread if that would block the loop."""
    if size <= _MAX_INLINE_BYTES:
        return function(*arguments)
    return await asyncio.to_thread(function, *arguments)


async def run_with_deadline(
    work: Coroutine[Any, Any, T], seconds: float, disconnected: Coroutine[Any, Any, None] | None = None
) -> T:
    """Await ``work``, but cancel it at the deadline or when the client disconnects.

    Cancelling takes the request out of the model's queue, so that nothing is computed in vain.

    Args:
        work: The coroutine that answers the request.
        seconds: Time until the deadline.
        disconnected: A coroutine that returns when the client closes the connection, if that can be known.

    Returns:
        The result of ``work``.

    Raises:
        DeadlineExceeded: The deadline has passed.
        ClientDisconnected: The client closed the connection.
        Unavailable: The server cancelled the work, because its time to drain is up.
    """
    working = asyncio.ensure_future(work)
    disconnecting = None if disconnected is None else asyncio.ensure_future(disconnected)
    tasks = {working} if disconnecting is None else {working, disconnecting}
    try:
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise DeadlineExceeded(f"not answered within {seconds:g} s")
        if not working.done():
            raise ClientDisconnected("the client closed the connection")
        if working.cancelled():
            raise Unavailable("this server is shutting down")
        return working.result()
    finally:
        working.cancel()
        if disconnecting is not None:
            disconnecting.cancel()
