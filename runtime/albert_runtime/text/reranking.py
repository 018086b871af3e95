"""rerank: documents in the order of their relevance to a query."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..artifact.tasks import MODEL, SEQUENCE_CLASSIFICATION
from ..errors import InputError
from .checks import validate_count, validate_text
from .classification import Classify
from .embedding import Embed
from .registry import METHODS, method_of_task
from .scores import activated
from .task_method import Answer, RowGroup, TaskMethod, TextModel

# The prompts of a sentence-transformers folder that its encode_query and encode_document take.
_QUERY_PROMPTS = ("query",)
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")
_RELEVANT_COLUMN = {1: 0, 2: 1}  # by the number of labels: the one for "relevant"


class Rerank:
    """The relevance of documents to a query.

    A classifier of pairs (a cross-encoder) scores each (query, document): the score is that of its only
    label, or of the second of two. An encoder embeds all texts: the score is the cosine of the vectors of a
    document and the query.

    ``parts``: the methods to run, each with its items. ``answer`` takes the answers to each.
    """

    def __init__(
        self,
        model: TextModel,
        query: object,
        documents: object,
        *,
        top_n: int | None = None,
        truncate: bool | None = None,
        activation: str | None = None,
    ) -> None:
        if isinstance(documents, str) or not isinstance(documents, Sequence) or not documents:
            raise InputError("documents must be a list of strings, at least one")
        text = validate_text(query, 0, "a string", what="query")
        texts = [validate_text(document, row, "a string") for row, document in enumerate(documents)]
        self._top_n = len(texts) if top_n is None else validate_count("top_n", top_n)
        self.parts: list[tuple[TaskMethod, list[Any]]]
        if model.task == SEQUENCE_CLASSIFICATION:
            pairs = [(text, document) for document in texts]
            cut = {} if truncate is None else {"truncate": truncate}
            self.parts = [(_Relevance(model, activation=activation, **cut), pairs)]
            return
        if model.task != MODEL:
            usage = METHODS[method_of_task(model.task)].usage
            raise InputError(
                f"rerank is for {SEQUENCE_CLASSIFICATION} and {MODEL} models; {model.name} is a {model.task} "
                f"model: use {usage}"
            )
        if activation is not None:
            raise InputError(
                f"activation is for classifiers; {model.name} is an encoder, its scores are cosines"
            )
        self.parts = [
            (Embed(model, truncate=truncate, normalize=True, prompt_name=_prompt(model, names)), items)
            for names, items in ((_QUERY_PROMPTS, [text]), (_DOCUMENT_PROMPTS, texts))
        ]

    def answer(self, answers: Sequence[Sequence[Any]]) -> list[Answer]:
        """{"index", "score"} of the ``top_n`` most relevant documents, the most relevant first."""
        if len(answers) == 1:
            scores = np.array(answers[0], np.float64)
        else:
            (query,), documents = (np.array(vectors, np.float64) for vectors in answers)
            scores = (documents * query).sum(axis=1)
        order = (-scores).argsort(kind="stable")[: self._top_n].tolist()
        return [{"index": index, "score": float(scores[index])} for index in order]


class _Relevance(Classify):
    """Pairs to the score of the label that says "relevant"."""

    def __init__(self, model: TextModel, **options: Any) -> None:
        super().__init__(model, **options)
        column = _RELEVANT_COLUMN.get(len(model.labels))
        if column is None:
            raise InputError(
                f"{model.name} has {len(model.labels)} labels; rerank needs a classifier of pairs with one "
                "label, for the relevance, or two, of which the second says that the document is relevant"
            )
        self._column = column

    def answer(self, item: Any, groups: Sequence[RowGroup], partials: Sequence[Any]) -> Any:
        """See TaskMethod.answer."""
        return float(activated(partials[0], self.activation)[self._column])


def _prompt(model: TextModel, names: Sequence[str]) -> str | None:
    """The first of these prompts that the model has; None for its default."""
    prompts = {} if model.sentence_texts is None else model.sentence_texts.prompts
    return next((name for name in names if name in prompts), None)
