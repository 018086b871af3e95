"""The answers of a Predictor to texts."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from .async_answers import AsyncTextAnswers
from .checks import validate_text
from .encoded import Text
from .reranking import Rerank
from .stream import AnswerStream, answer_all, stream
from .task_method import Answer


class TextAnswers(AsyncTextAnswers):
    """The methods that take texts and give labels, entities, words and vectors."""

    @overload
    def classify(  # type: ignore[overload-overlap]
        self,
        texts: str,
        *,
        top_k: int | None = None,
        activation: str | None = None,
        truncate: bool = False,
    ) -> Answer: ...
    @overload
    def classify(
        self,
        texts: Iterable[Text],
        *,
        top_k: int | None = None,
        activation: str | None = None,
        truncate: bool = False,
    ) -> list[Answer]: ...
    def classify(
        self,
        texts: Any,
        *,
        top_k: int | None = None,
        activation: str | None = None,
        truncate: bool = False,
    ) -> Any:
        """Label texts or (text, text) pairs.

        Here and in all methods that take texts, one string gives one answer and an iterable gives a list.
        Many texts run in batches bounded by tokens, with a progress bar on a terminal.

        Args:
            texts: A string, or an iterable of strings and (text, text) pairs.
            top_k: Also return the ``top_k`` likeliest labels with their probabilities.
            activation: What makes scores of the logits: softmax, sigmoid, or none for the logits themselves
                (default: what the checkpoint's config says, which the manifest keeps).
            truncate: Cut texts that are too long instead of refusing them: to the model's positions, or to
                the length that its tokenizer states, if that is smaller.

        Returns:
            {"label", "score"} for each text, the score a probability; with ``top_k`` also "probabilities",
            from label to probability, the likeliest first; of labels of the same name all but the likeliest
            have " (LABEL_i)" added, i being the column. Two kinds of models give every label a score of its
            own, and all of them unless ``top_k`` is given: of problem_type multi_label_classification a
            sigmoid, of regression the logit. A model with one label gives the logit, unless its config names
            an activation.

        Raises:
            InputError: A text cannot be answered (the message names its row), or the model has another task
                (the message names the method to use).
        """
        return self._answer("classify", texts, top_k=top_k, activation=activation, truncate=truncate)

    @overload
    def tag(self, texts: str, *, stride: int = 128, truncate: bool = False) -> list[Answer]: ...  # type: ignore[overload-overlap]
    @overload
    def tag(
        self, texts: Iterable[str], *, stride: int = 128, truncate: bool = False
    ) -> list[list[Answer]]: ...
    def tag(self, texts: Any, *, stride: int = 128, truncate: bool = False) -> Any:
        """Find the entities in texts of any length.

        A text longer than the model's positions runs in overlapping windows; a word has its label from the
        window where it has most context.

        A word has the label of its first token. Neighbours with labels such as B-PER and I-PER, or PER among
        O, merge into one entity whose score is the mean of its words'. If no label means "outside", every
        word is an entity of its own.

        Args:
            texts: A string or an iterable of strings.
            stride: Tokens that neighbouring windows share.
            truncate: Tag only what fits into the model's positions.

        Returns:
            For each text the list of its entities, in order: {"label", "text", "start", "end", "score"}, with
            ``start`` and ``end`` in characters of the text.

        Raises:
            InputError: See ``classify``.
        """
        return self._answer("tag", texts, stride=stride, truncate=truncate)

    @overload
    def fill_mask(  # type: ignore[overload-overlap]
        self,
        text: str,
        *,
        top_k: int = 5,
        targets: str | Sequence[str] | None = None,
        truncate: bool = False,
    ) -> Answer: ...
    @overload
    def fill_mask(
        self,
        text: Iterable[str],
        *,
        top_k: int = 5,
        targets: str | Sequence[str] | None = None,
        truncate: bool = False,
    ) -> list[Answer]: ...
    def fill_mask(
        self,
        text: Any,
        *,
        top_k: int = 5,
        targets: str | Sequence[str] | None = None,
        truncate: bool = False,
    ) -> Any:
        """Fill the [MASK] tokens of texts.

        Args:
            text: A string or an iterable of strings.
            top_k: Candidates for each mask.
            targets: Words to choose the candidates from. One that is no token stands for its first token,
                with a warning if it has more. Probabilities remain those among all tokens.
            truncate: See ``classify``.

        Returns:
            {"text", "masks"} for each text: the text filled with the likeliest tokens, and for each mask
            {"start", "end", "candidates"}: its characters in the given text, and ``top_k`` times {"token",
            "score", "text"}: the token, its probability, and the text with this token in this place.

        Raises:
            InputError: See ``classify``.
        """
        return self._answer("fill_mask", text, top_k=top_k, targets=targets, truncate=truncate)

    def embed(
        self,
        texts: str | Iterable[Text | Sequence[int]],
        *,
        pooling: str | None = None,
        normalize: bool | None = None,
        truncate: bool | None = None,
        prompt_name: str | None = None,
        dimensions: int | None = None,
    ) -> NDArray[np.float32]:
        """Turn texts or (text, text) pairs into vectors.

        A model of a sentence-transformers folder gives what ``SentenceTransformer.encode`` gives: its own
        pooling and further modules, its default prompt, texts cut at the manifest's max_length.

        Args:
            texts: A string, or an iterable of strings, pairs and lists of token ids. Such a list is a whole
                row: neither special tokens nor a prompt are added.
            pooling: mean (over all tokens, [CLS] and [SEP] included), cls (the first token's hidden state) or
                pooler (the model's pooled output). None: what the model's folder says, else mean.
            normalize: Scale each vector to length 1. None: yes, unless the folder's modules make the vector,
                which scale it themselves where the model wants it.
            truncate: Cut texts that are too long instead of refusing them. None: yes, at its max_length, for
                a model of a sentence-transformers folder; else no.
            prompt_name: A prompt of the sentence-transformers folder to put before each text. None: the
                folder's default prompt, if it has one.
            dimensions: Keep so many of a vector's numbers, the first ones, and scale them to length 1 unless
                ``normalize`` is False: for models that were trained for it (Matryoshka).

        Returns:
            float32 [H] for one string, else [B, H]; D, not H, where the folder's modules make the vector, and
            ``dimensions`` where that is given.

        Raises:
            InputError: See ``classify``.
        """
        options = {
            "pooling": pooling,
            "normalize": normalize,
            "truncate": truncate,
            "prompt_name": prompt_name,
            "dimensions": dimensions,
        }
        vectors = self._answer("embed", texts, **options)
        if isinstance(texts, str):
            return vectors  # type: ignore[no-any-return]
        model = self._text_model("embed")
        width = dimensions or (model.embedding_size if pooling is None else model.hidden_size)
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
        """Find the span of a context that answers a question.

        Args:
            question: The question.
            context: A text of any length. One longer than the model's positions runs in overlapping windows.
            stride: Tokens that neighbouring windows share.
            max_tokens: The most tokens in an answer, before it is widened to whole words.
            allow_no_answer: For models trained with unanswerable questions (as in SQuAD 2): return an empty
                span if in every window it is likelier than the best span.

        Returns:
            {"text", "score", "start", "end"}: the likeliest span of all windows, its probability, and its
            place in the context, in characters. The empty span is "" from 0 to 0; its score is its lowest in
            any window.

        Raises:
            InputError: See ``classify``.
        """
        options = {"stride": stride, "max_tokens": max_tokens, "allow_no_answer": allow_no_answer}
        return next(self.stream("answer", [(question, context)], **options))

    def choose(self, prompt: str, choices: Sequence[str], *, truncate: bool = False) -> Answer:
        """Choose what fits a prompt best.

        Args:
            prompt: The prompt.
            choices: The texts to choose from.
            truncate: See ``classify``.

        Returns:
            {"choice", "index", "score", "probabilities"}: the best choice, its index and probability, and the
            probabilities of all.

        Raises:
            InputError: See ``classify``.
        """
        return next(self.stream("choose", [(prompt, choices)], truncate=truncate))

    def rerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top_n: int | None = None,
        activation: str | None = None,
        truncate: bool | None = None,
    ) -> list[Answer]:
        """Order documents by their relevance to a query.

        A classifier of pairs (a cross-encoder) scores each pair of query and document: with one label its
        score, with two that of the second, as ``classify`` gives them. An encoder embeds all texts, with the
        prompts "query" and "document" (or "passage", or "corpus") of a sentence-transformers folder that has
        them; the score is the cosine of the two vectors.

        Args:
            query: The query.
            documents: The documents.
            top_n: Only the so many most relevant ones.
            activation: See ``classify``.
            truncate: See ``classify``, for an encoder ``embed``.

        Returns:
            {"index", "score"} for each document, the most relevant first; ``index`` is its place in
            ``documents``.

        Raises:
            InputError: See ``classify``.
        """
        options: dict[str, Any] = {"top_n": top_n, "activation": activation, "truncate": truncate}
        reranking = Rerank(self._text_model("rerank"), query, documents, **options)
        return reranking.answer([list(AnswerStream(method, items)) for method, items in reranking.parts])

    def stream(self, method: str, items: Iterable[object], **options: Any) -> Iterator[Any]:
        """Answer any number of items in order, with only a window of them in memory.

        Args:
            method: classify, tag, fill_mask, embed, answer or choose.
            items: Texts; for answer (question, context) pairs, for choose (prompt, choices) pairs.
            **options: The method's keyword arguments.

        Returns:
            An iterator over the answers.

        Raises:
            InputError: See ``classify``; for an item, when its answer is asked for.
        """
        return stream(self._text_model(method), method, items, options)

    def count_tokens(self, texts: Sequence[str], *, at_most: int | None = None) -> list[int]:
        """How many tokens each text has, without [CLS] and [SEP].

        Args:
            texts: The texts.
            at_most: Do not count on where a text has so many tokens: the number is then at least this one.

        Raises:
            InputError: The artifact has no tokenizer, or a text is empty or no valid Unicode.
        """
        texts = [validate_text(text, row, "a string") for row, text in enumerate(texts)]
        return self._text_model("count_tokens").encoder.count(texts, at_most)

    def _answer(self, method: str, texts: object, **options: Any) -> Any:
        return answer_all(self._text_model(method), method, texts, options)
