"""Answers to texts for asyncio."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import Future
from typing import Any

from ..backends.base import Outputs
from .long_texts import LONG_TEXTS
from .stream import AnswerStream, ModelCall, Tokenizing
from .task_method import TaskMethod


class AsyncAnswers(AsyncIterator[Any]):
    """The answers to items, in order; ``tokens`` counts those that the model has been given so far.

    Args:
        submit: Queues a call of the model.
        make_method: Makes the method that answers; called on another thread.
        items: What it answers.
    """

    def __init__(
        self,
        submit: Callable[[ModelCall], "Future[Outputs]"],
        make_method: Callable[[], TaskMethod],
        items: Iterable[object],
    ) -> None:
        self.tokens = 0
        self._answers = self._answered(submit, make_method, items)

    async def __anext__(self) -> Any:
        return await anext(self._answers)

    async def aclose(self) -> None:
        """Ask for no more answers."""
        await self._answers.aclose()

    async def _answered(
        self,
        submit: Callable[[ModelCall], "Future[Outputs]"],
        make_method: Callable[[], TaskMethod],
        items: Iterable[object],
    ) -> Any:
        answers = await asyncio.to_thread(lambda: AnswerStream(make_method(), items))
        step = await asyncio.to_thread(answers.advance)
        while step is not None:
            if isinstance(step, ModelCall):
                self.tokens += step.batch.tokens
                outputs = await asyncio.wrap_future(submit(step))
                step = await asyncio.to_thread(answers.advance, outputs)
            elif isinstance(step, Tokenizing):
                step = await LONG_TEXTS.run(step.characters, answers.advance)
            else:
                for answer in step:
                    yield answer
                step = await asyncio.to_thread(answers.advance)
