"""Answers to texts for asyncio."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any

from ..backends.base import Outputs
from .long_texts import LONG_TEXTS
from .registry import create_method
from .reranking import Rerank
from .stream import AnswerStream, ModelCall, Tokenizing
from .task_method import Answer, TaskMethod, TextModel


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


class AsyncTextAnswers(ABC):
    """The methods for asyncio; their batches are joined with other callers' requests."""

    def astream(self, method: str, items: Iterable[object], **options: Any) -> "AsyncAnswers":
        """``stream`` for asyncio; its batches are joined with other callers' requests, see ``submit``.

        Returns:
            An asynchronous iterator over the answers; its ``tokens`` is how many the model has been given.
        """
        model = self._text_model(method)
        return AsyncAnswers(self._submit_call, lambda: create_method(model, method, options), items)

    async def arerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top_n: int | None = None,
        activation: str | None = None,
        truncate: bool | None = None,
    ) -> "tuple[list[Answer], int]":
        """``rerank`` for asyncio, see ``submit``: the answers, and how many tokens the model was given."""
        options: dict[str, Any] = {"top_n": top_n, "activation": activation, "truncate": truncate}
        model = self._text_model("rerank")
        reranking = await asyncio.to_thread(lambda: Rerank(model, query, documents, **options))
        streams = [
            AsyncAnswers(self._submit_call, lambda method=method: method, items)  # type: ignore[misc]
            for method, items in reranking.parts
        ]
        answers = []
        for stream in streams:
            answers.append([answer async for answer in stream])
        return reranking.answer(answers), sum(stream.tokens for stream in streams)

    @abstractmethod
    def _submit_call(self, call: ModelCall) -> "Future[Outputs]":
        """Queue a call among the requests of other callers."""

    @abstractmethod
    def _text_model(self, method: str) -> TextModel:
        """The model that answers; InputError if it cannot."""
