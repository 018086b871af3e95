"""Answers instead of arrays: labels, entities, spans, words and vectors, each a thin layer over ``run``."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .classification import Choose, Classify, Embed
from .progress import bar
from .question_answering import AnswerQuestion
from .task_method import Answer, Method, Results, Run, Setting, Unit
from .token_classification import FillMask, Tag

__all__ = ["METHODS", "Answer", "Call", "Setting", "Steps", "answer_all", "method_of_task", "stream"]

METHODS: dict[str, type[Method]] = {
    "classify": Classify,
    "tag": Tag,
    "answer": AnswerQuestion,
    "fill_mask": FillMask,
    "choose": Choose,
    "embed": Embed,
}
_ITEMS_AT_A_TIME = 256
_CHARACTERS_AT_A_TIME = 200_000
_CELLS_PER_BATCH = 4096


def method_of_task(task: str) -> str:
    """Name of the method that answers for models of a task."""
    return next(name for name, method in METHODS.items() if task in method.tasks)


def stream(setting: Setting, name: str, items: Iterable[object], options: dict[str, Any]) -> Iterator[Any]:
    """Answers to any number of items, in their order; no more than a window of them is in memory.

    InputError names the row that cannot be answered, or the method that fits the model's task.
    """
    return _stream(Steps(setting, name, items, options), setting.run)


def _stream(steps: "Steps", run: Run) -> Iterator[Any]:
    step = steps.advance()
    while step is not None:
        if isinstance(step, Call):
            step = steps.advance(run(step.batch, step.outputs, positions=step.positions))
        else:
            yield from step
            step = steps.advance()


@dataclass(frozen=True, slots=True)
class Call:
    """What is to be run: the arguments of Predictor.run."""

    batch: dict[str, NDArray[np.int64]]
    outputs: tuple[str, ...]
    positions: list[list[int]] | None


class Steps:
    """A stream cut where the model has to run, so that whoever runs it may wait as he likes."""

    def __init__(self, setting: Setting, name: str, items: Iterable[object], options: dict[str, Any]) -> None:
        self._steps = _steps(_create(setting, name, options), iter(items))

    def advance(self, results: Results | None = None) -> Call | list[Any] | None:
        """A call, whose results are to be handed in next; or answers, the next in order; None at the end."""
        try:
            return self._steps.send(results)
        except StopIteration:
            return None


def answer_all(setting: Setting, name: str, texts: object, options: dict[str, Any]) -> Any:
    """The answer to one text, or the list of answers to many, with a progress bar on a terminal."""
    if isinstance(texts, tuple) and len(texts) == 2 and all(isinstance(part, str) for part in texts):
        raise InputError(
            "a tuple of two strings is ambiguous; write [(a, b)] for a pair, [a, b] for two texts"
        )
    if isinstance(texts, str):
        return next(stream(setting, name, [texts], options))
    if isinstance(texts, bytes) or not isinstance(texts, Iterable):
        raise InputError(f"texts must be a string or strings, not {type(texts).__name__}")
    answers = []
    with bar(name, len(texts) if isinstance(texts, Sequence) else None) as advance:
        for answer in stream(setting, name, texts, options):
            answers.append(answer)
            advance(1)
    return answers


def _create(setting: Setting, name: str, options: dict[str, Any]) -> Method:
    kind = METHODS.get(name)
    if kind is None:
        raise InputError(f"method {name!r} is unknown; choose one of {', '.join(METHODS)}")
    if setting.task not in kind.tasks:
        fitting = METHODS[method_of_task(setting.task)].usage
        raise InputError(
            f"{name} is for {' and '.join(kind.tasks)} models; {setting.name} is a {setting.task} model: "
            f"use {fitting}"
        )
    for option in options:
        if option not in kind.options:
            raise InputError(f"{name} has no option {option!r}; it has {', '.join(kind.options)}")
    return kind(setting, **options)


def _steps(method: Method, items: Iterator[object]) -> Generator[Call | list[Any], Results | None, None]:
    first_row = 0
    while window := _window(method, items, first_row):
        units_of = method.units(window, first_row)
        kept = iter((yield from _run(method, [unit for units in units_of for unit in units])))
        yield [
            method.answer(item, units, list(islice(kept, len(units))))
            for item, units in zip(window, units_of, strict=True)
        ]
        first_row += len(window)


def _window(method: Method, items: Iterator[object], first_row: int) -> list[Any]:
    """The next items, bounded in number and in characters."""
    window: list[Any] = []
    characters = 0
    while len(window) < _ITEMS_AT_A_TIME and characters < _CHARACTERS_AT_A_TIME:
        try:
            item = next(items)
        except StopIteration:
            break
        window.append(method.validate(item, first_row + len(window)))
        characters += _size(window[-1])
    return window


def _size(item: object) -> int:
    return len(item) if isinstance(item, str) else sum(map(_size, item))  # type: ignore[call-overload]


def _run(method: Method, units: Sequence[Unit]) -> Generator[Call, Results | None, list[Any]]:
    """What is kept of each unit. Units of like length run together, so that little is padding."""
    widths = [max(len(row.ids) for row in unit) for unit in units]
    order = sorted(range(len(units)), key=lambda index: (len(units[index]), widths[index]))
    kept: list[Any] = [None] * len(units)
    batch: list[int] = []
    for place, index in enumerate(order):
        batch.append(index)
        following = order[place + 1] if place + 1 < len(order) else None
        if following is not None and len(units[following]) == len(units[index]):
            cells = (len(batch) + 1) * len(units[following]) * widths[following]
            if cells <= _CELLS_PER_BATCH:
                continue
        chosen = [units[member] for member in batch]
        results = yield _call(method, chosen)
        assert results is not None
        for member, value in zip(batch, method.reduce(results, chosen), strict=True):
            kept[member] = value
        batch = []
    return kept


def _call(method: Method, units: Sequence[Unit]) -> Call:
    positions = [method.positions(unit) for unit in units]
    wanted = None if positions[0] is None else cast("list[list[int]]", positions)
    return Call(_padded(units, choices=isinstance(method, Choose)), method.outputs, wanted)


def _padded(units: Sequence[Unit], *, choices: bool) -> dict[str, NDArray[np.int64]]:
    rows = [row for unit in units for row in unit]
    shape = (len(rows), max(len(row.ids) for row in rows))
    arrays = {name: np.zeros(shape, np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
    for index, row in enumerate(rows):
        arrays["input_ids"][index, : len(row.ids)] = row.ids
        arrays["attention_mask"][index, : len(row.ids)] = 1
        arrays["token_type_ids"][index, : len(row.ids)] = row.types
    if not choices:
        return arrays
    return {name: values.reshape(len(units), -1, shape[1]) for name, values in arrays.items()}
