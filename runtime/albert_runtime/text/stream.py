"""Answers to any number of texts, in order: read some items, run the model, answer, and go on.

Only a window of items is in memory at a time.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from ..backends.base import Outputs
from ..batch.pack import pack_rows
from ..batch.packed import Int32, PackedBatch
from ..errors import InputError
from .long_texts import count_characters
from .progress import bar
from .registry import create_method
from .task_method import RowGroup, TaskMethod, TextModel

_MAX_ITEMS = 256  # in a window
_MAX_CHARACTERS = 200_000
# Rows times the longest row of a batch. Outputs are padded to the longest row, on every backend: without this
# bound, and rows of like length together, one long text would widen the outputs of hundreds of short ones.
_MAX_PADDED_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class ModelCall:
    """A batch that the model has to run: the arguments of Backend.run."""

    batch: PackedBatch
    outputs: tuple[str, ...]
    score_tokens: Int32 | None


@dataclass(frozen=True, slots=True)
class Tokenizing:
    """Texts that come to be tokenized next: how many characters they have together."""

    characters: int


Step = ModelCall | Tokenizing | list[Any]


class AnswerStream:
    """Answers to items, which stops wherever the model has to run, so that the caller decides how to wait.

    It also stops before texts are tokenized, so that the caller decides on which thread.
    """

    def __init__(self, method: TaskMethod, items: Iterable[object]) -> None:
        self._model = method.model
        self._steps = _steps(method.model, method, iter(items))

    def advance(self, outputs: Outputs | None = None) -> Step | None:
        """The next step: a call, whose outputs the next ``advance`` takes; some answers; None at the end."""
        try:
            return self._steps.send(outputs)
        except StopIteration:
            return None

    def __iter__(self) -> Iterator[Any]:
        """All answers, with the model run on the caller's thread."""
        step = self.advance()
        while step is not None:
            if isinstance(step, ModelCall):
                step = self.advance(self._model.run(step.batch, step.outputs, step.score_tokens))
            elif isinstance(step, Tokenizing):
                step = self.advance()
            else:
                yield from step
                step = self.advance()


def stream(model: TextModel, name: str, items: Iterable[object], options: dict[str, Any]) -> Iterator[Any]:
    """Answers to any number of items, in their order.

    InputError names the row that cannot be answered, or the method that fits the model's task.
    """
    return iter(AnswerStream(create_method(model, name, options), items))


def answer_all(model: TextModel, name: str, texts: object, options: dict[str, Any]) -> Any:
    """The answer to one text, or the list of answers to many, with a progress bar on a terminal."""
    if isinstance(texts, tuple) and len(texts) == 2 and all(isinstance(part, str) for part in texts):
        raise InputError(
            "a tuple of two strings is ambiguous; write [(a, b)] for a pair, [a, b] for two texts"
        )
    if isinstance(texts, str):
        return next(stream(model, name, [texts], options))
    if isinstance(texts, bytes) or not isinstance(texts, Iterable):
        raise InputError(f"texts must be a string or strings, not {type(texts).__name__}")
    answers = []
    with bar(name, len(texts) if isinstance(texts, Sequence) else None) as advance:
        for answer in stream(model, name, texts, options):
            answers.append(answer)
            advance(1)
    return answers


def _steps(
    model: TextModel, method: TaskMethod, items: Iterator[object]
) -> Generator[Step, Outputs | None, None]:
    first_row = 0
    while window := _window(method, items, first_row):
        yield Tokenizing(count_characters(window))
        groups_of = method.row_groups(window, first_row)
        partials = iter((yield from _run(model, method, [group for groups in groups_of for group in groups])))
        yield [
            method.answer(item, groups, list(islice(partials, len(groups))))
            for item, groups in zip(window, groups_of, strict=True)
        ]
        first_row += len(window)


def _window(method: TaskMethod, items: Iterator[object], first_row: int) -> list[Any]:
    """The next items, bounded in number and in characters."""
    window: list[Any] = []
    characters = 0
    while len(window) < _MAX_ITEMS and characters < _MAX_CHARACTERS:
        try:
            item = next(items)
        except StopIteration:
            break
        window.append(method.validate(item, first_row + len(window)))
        characters += count_characters(window[-1])
    return window


def _run(
    model: TextModel, method: TaskMethod, groups: Sequence[RowGroup]
) -> Generator[Step, Outputs | None, list[Any]]:
    """The partial result of each row group."""
    partials: list[Any] = [None] * len(groups)
    for batch in _batches(groups):
        members = [groups[index] for index in batch]
        outputs = yield _call(model, method, members)
        assert outputs is not None
        for index, partial in zip(batch, method.extract(outputs, members), strict=True):
            partials[index] = partial
    return partials


def _batches(groups: Sequence[RowGroup]) -> Iterator[list[int]]:
    """Indices of the row groups of each batch: as many rows in each group, and rows of like length."""
    shapes = [(len(group), max(len(row.ids) for row in group)) for group in groups]
    batch: list[int] = []
    for index in sorted(range(len(groups)), key=shapes.__getitem__):
        rows, width = shapes[index]
        if batch and (rows != shapes[batch[0]][0] or (len(batch) + 1) * rows * width > _MAX_PADDED_TOKENS):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _call(model: TextModel, method: TaskMethod, groups: Sequence[RowGroup]) -> ModelCall:
    rows = [row for group in groups for row in group]
    batch = pack_rows(
        [row.ids for row in rows],
        [row.types for row in rows],
        model.limits,
        choices=len(groups[0]) if method.has_choices else None,
    )
    tokens = [
        first + column
        for first, row in zip(batch.row_starts.tolist(), rows, strict=False)
        for column in method.score_columns(row) or ()
    ]
    return ModelCall(batch, method.outputs, np.array(tokens, np.int32) if tokens else None)
