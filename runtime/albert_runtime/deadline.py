"""Deadlines in asyncio."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from .errors import DeadlineExceeded

T = TypeVar("T")


async def within(seconds: float | None, work: Awaitable[T]) -> T:
    """The result of the work, which is cancelled after so many seconds (None = never): DeadlineExceeded."""
    try:
        return await asyncio.wait_for(work, seconds)
    except asyncio.TimeoutError:
        raise DeadlineExceeded(f"not answered within {seconds:g} s") from None
