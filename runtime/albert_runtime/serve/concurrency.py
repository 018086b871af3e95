"""Keeps the event loop free of long work, and stops a request at its deadline or when its client is gone."""

import asyncio
import contextlib
import threading
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


async def run_in_own_thread(function: Callable[[], T]) -> T:
    """Call a function that takes long on a thread of its own.

    The thread is a daemon, unlike those of ``asyncio.to_thread``: the event loop can end before it.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: Exception | None) -> None:
        if result.done():
            return
        if error is None:
            result.set_result(value)  # type: ignore[arg-type]
        else:
            result.set_exception(error)

    def run() -> None:
        value, error = None, None
        try:
            value = function()
        except Exception as caught:
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=run, name="albert-load", daemon=True).start()
    return await result


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
