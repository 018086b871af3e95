"""Long texts have threads of their own, and a bound."""

import asyncio
import threading

import pytest

from albert_runtime import Overloaded
from albert_runtime.text.long_texts import LongTexts, count_characters

LONG = 10**6


def test_short_texts_do_not_wait_for_long_ones():
    texts, release = LongTexts(max_waiting=4), threading.Event()
    seconds = []
    texts.observers.append(seconds.append)

    async def ask():
        long = [asyncio.ensure_future(texts.run(LONG, release.wait)) for _ in range(4)]
        await asyncio.sleep(0)
        assert texts.waiting == 4
        with pytest.raises(Overloaded, match=r"4 requests with long texts are waiting"):
            await texts.run(LONG, int)
        assert await texts.run(10, lambda number: number + 1, 6) == 7
        long.pop().cancel()  # one that has not begun
        await asyncio.sleep(0.01)
        assert texts.waiting == 3
        release.set()
        assert await asyncio.gather(*long) == [True] * 3

    asyncio.run(asyncio.wait_for(ask(), 60))
    assert texts.waiting == 0 and len(seconds) == 3


def test_errors_are_the_callers():
    texts = LongTexts()

    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match=r"no"):
        asyncio.run(texts.run(LONG, fail))
    assert texts.waiting == 0


def test_characters_of_nested_items():
    assert count_characters([("ab", ["c", "d"]), "ef", 7, None]) == 6
