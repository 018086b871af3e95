"""The threads on which long texts become tokens, so that nobody else's texts wait for them."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from ..errors import Overloaded

T = TypeVar("T")

_LONG = 2**16  # characters of a request's texts: some 20 ms
_THREADS = 2


class LongTexts:
    """Runs work on texts: on these threads if they are long, else on those that asyncio has for any work.

    Args:
        max_waiting: The most requests that may wait for these threads or run there.
    """

    def __init__(self, max_waiting: int = 64) -> None:
        self.max_waiting = max_waiting
        self.observers: list[Callable[[float], None]] = []
        """Each is called with the seconds that every work on long texts took, without its wait."""
        self._start()
        os.register_at_fork(after_in_child=self._start)

    def _start(self) -> None:
        self._lock, self._waiting = threading.Lock(), 0
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="albert-long-texts")

    @property
    def waiting(self) -> int:
        """How many requests wait for these threads or run there."""
        return self._waiting

    async def run(self, characters: int, function: Callable[..., T], *arguments: Any) -> T:
        """The result of a function that works on so many characters, called on a thread.

        Overloaded if the texts are long and too many others are.
        """
        if characters <= _LONG:
            return await asyncio.to_thread(function, *arguments)
        with self._lock:
            if self._waiting >= self.max_waiting:
                raise Overloaded(f"{self._waiting} requests with long texts are waiting; try again later")
            self._waiting += 1
        future = self._executor.submit(self._timed, function, *arguments)
        future.add_done_callback(self._ended)
        return await asyncio.wrap_future(future)

    def _timed(self, function: Callable[..., T], *arguments: Any) -> T:
        began = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            for observer in self.observers:
                observer(time.perf_counter() - began)

    def _ended(self, future: "Future[Any]") -> None:
        with self._lock:
            self._waiting -= 1


LONG_TEXTS = LongTexts()


def count_characters(items: object) -> int:
    """Characters of all strings in nested lists and tuples."""
    if isinstance(items, str):
        return len(items)
    return sum(map(count_characters, items)) if isinstance(items, list | tuple) else 0
