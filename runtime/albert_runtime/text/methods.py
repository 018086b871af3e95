"""The answers of a Predictor to texts."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ..backends.base import Outputs
from .checks import validate_text
from .stream import AnswerStream, ModelCall, answer_all, stream
from .task_method import Answer, TextModel
from .tokenizer import Text


class TextAnswers(ABC):
    """The methods that take texts and give labels, entities, words and vectors."""

    @overload
    def classify(self, texts: str, *, top_k: int | None = None, truncate: bool = False) -> Answer: ...  # type: ignore[overload-overlap]
    @overload
    def classify(
        self, texts: Iterable[Text], *, top_k: int | None = None, truncate: bool = False
    ) -> list[Answer]: ...
    def classify(self, texts: Any, *, top_k: int | None = None, truncate: bool = False) -> Any:
        """The label of each text or (text, text) pair: {"label", "score"}, the score a probability.

        ``top_k`` adds "probabilities", that many labels to theirs, the likeliest first. A model of one label
        was trained by regression: its score is the logit itself. One trained for several labels at a time
        (problem_type multi_label_classification) gives each a probability of its own, all of them unless
        ``top_k`` says how many. One string gives one answer, a list or any
        iterable a list, here and in all methods that take texts; long ones run in batches bounded by tokens,
        with a progress bar on a terminal. ``truncate`` cuts texts that are too long, which are an error
        otherwise. Raises InputError naming the row, or the method that fits the model.
        """
        return self._answer("classify", texts, top_k=top_k, truncate=truncate)

    @overload
    def tag(self, texts: str, *, truncate: bool = False) -> list[Answer]: ...  # type: ignore[overload-overlap]
    @overload
    def tag(self, texts: Iterable[str], *, truncate: bool = False) -> list[list[Answer]]: ...
    def tag(self, texts: Any, *, truncate: bool = False) -> Any:
        """The entities in each text, in order: {"label", "text", "start", "end", "score"}.

        ``start`` and ``end`` are characters of the text. A word has the label of its first token. Labels such
        as B-PER and I-PER, or PER and O, merge neighbours into one entity, its score the mean of its words';
        where no label says what is outside, every word is tagged by itself.
        """
        return self._answer("tag", texts, truncate=truncate)

    @overload
    def fill_mask(self, text: str, *, top_k: int = 5, truncate: bool = False) -> Answer: ...  # type: ignore[overload-overlap]
    @overload
    def fill_mask(self, text: Iterable[str], *, top_k: int = 5, truncate: bool = False) -> list[Answer]: ...
    def fill_mask(self, text: Any, *, top_k: int = 5, truncate: bool = False) -> Any:
        """What stands best for each [MASK]: {"text", "masks"}, the text filled with the likeliest tokens.

        "masks" has for each mask {"start", "end", "candidates"}, its characters in the given text and
        ``top_k`` times {"token", "score", "text"}: the probability, and the text with this token in this
        place.
        """
        return self._answer("fill_mask", text, top_k=top_k, truncate=truncate)

    def embed(
        self,
        texts: str | Iterable[Text],
        *,
        pooling: str = "mean",
        normalize: bool = True,
        truncate: bool = False,
    ) -> NDArray[np.float32]:
        """A vector [H] of one string, or vectors [B, H] of texts or (text, text) pairs.

        ``pooling`` is mean (of all tokens, [CLS] and [SEP] too), cls (the first token's state) or pooler (the
        model's pooled output). ``normalize`` scales each to length 1.
        """
        options = {"pooling": pooling, "normalize": normalize, "truncate": truncate}
        vectors = self._answer("embed", texts, **options)
        if isinstance(texts, str):
            return vectors  # type: ignore[no-any-return]
        width = self._text_model("embed").hidden_size
        return np.array(vectors, np.float32).reshape(len(vectors), width)

    def answer(
        self,
        question: str,
        context: str,
        *,
        stride: int = 128,
        max_tokens: int = 30,
        allow_no_answer: bool = False,
    ) -> Answer:
        """The span of the context that answers: {"text", "score", "start", "end"}, characters of the context.

        A context longer than the model's positions runs in windows that share ``stride`` tokens. The span, of
        at most ``max_tokens`` tokens widened to whole words, is the likeliest of all windows, and ``score``
        its probability. ``allow_no_answer``, for models trained on questions without answer (as in SQuAD 2),
        gives the empty span {"text": "", "start": 0, "end": 0} if in every window it is likelier than that
        span; its score is then that in the window where it is least likely.
        """
        options = {"stride": stride, "max_tokens": max_tokens, "allow_no_answer": allow_no_answer}
        return next(self.stream("answer", [(question, context)], **options))

    def choose(self, prompt: str, choices: Sequence[str], *, truncate: bool = False) -> Answer:
        """The choice that fits the prompt best: {"choice", "index", "score", "probabilities"}."""
        return next(self.stream("choose", [(prompt, choices)], truncate=truncate))

    def stream(self, method: str, items: Iterable[object], **options: Any) -> Iterator[Any]:
        """Answers of any number of items, one after another in their order, without keeping them in memory.

        ``method`` is classify, tag, fill_mask, embed, answer or choose, ``options`` are its keywords. Items
        are texts; pairs (question, context) for answer; pairs (prompt, choices) for choose.
        """
        return stream(self._text_model(method), method, items, options)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, without [CLS] and [SEP]; InputError without a tokenizer."""
        texts = [validate_text(text, row, "a string") for row, text in enumerate(texts)]
        return self._text_model("count_tokens").encoder.count(texts)

    async def astream(self, method: str, items: Iterable[object], **options: Any) -> AsyncIterator[Any]:
        """``stream`` for asyncio: the batches join those of other callers, see ``submit``."""
        model = self._text_model(method)
        answers = await asyncio.to_thread(AnswerStream, model, method, items, options)
        step = await asyncio.to_thread(answers.advance)
        while step is not None:
            if isinstance(step, ModelCall):
                outputs = await asyncio.wrap_future(self._submit_call(step))
                step = await asyncio.to_thread(answers.advance, outputs)
            else:
                for answer in step:
                    yield answer
                step = await asyncio.to_thread(answers.advance)

    @abstractmethod
    def _submit_call(self, call: ModelCall) -> "Future[Outputs]":
        """Queue a call among the requests of other callers."""

    def _answer(self, method: str, texts: object, **options: Any) -> Any:
        return answer_all(self._text_model(method), method, texts, options)

    @abstractmethod
    def _text_model(self, method: str) -> TextModel:
        """The model that answers; InputError if it cannot."""
