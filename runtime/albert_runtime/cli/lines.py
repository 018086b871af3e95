"""Lines of text or JSON to answers: what albert-predict does between reading and writing."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..predictor import Predictor
from ..text.registry import method_of_task

FORMATS = ("auto", "text", "json")

_BLOCK = 2**16
_ROW = re.compile(r"row (\d+)")
# The keys of a JSON line for a method, the first of them as a hint; a text line is the first key's value.
_KEYS = {
    "classify": ("text", "pair"),
    "embed": ("text", "pair"),
    "tag": ("text",),
    "fill_mask": ("text",),
    "answer": ("question", "context"),
    "choose": ("prompt", "choices"),
}
_OPTIONAL = "pair"
# Methods whose answers are no objects.
_WRAPPED = {"tag": "entities", "embed": "embedding"}


@dataclass(frozen=True, slots=True)
class LineAnswer:
    """What became of one input line, numbered from 1: ``answer``, ready for JSON, or ``error``."""

    number: int
    answer: dict[str, Any] | None
    error: str | None = None


def read_lines(descriptor: int) -> Iterator[list[bytes]]:
    """Lines of a file descriptor without their ends, as many at a time as are there to be read."""
    rest: list[bytes] = []
    while block := os.read(descriptor, _BLOCK):
        first, *others = block.split(b"\n")
        rest.append(first)
        if others:
            lines = [b"".join(rest), *others[:-1]]
            rest = [others[-1]]
            yield lines
    if last := b"".join(rest):
        yield [last]


def answer_lines(
    predictor: Predictor, blocks: Iterable[Sequence[bytes]], line_format: str, options: dict[str, Any]
) -> Iterator[LineAnswer]:
    """One answer for every line, in order, each block of lines as soon as it is there.

    A line that cannot be answered is answered by its error. InputError if the model or an option is at fault.
    """
    task = predictor.task
    method = "albert-predict" if task is None else method_of_task(task)
    predictor.stream(method, (), **options)  # refuses the model or an option before any line is read
    number = 1
    for lines in blocks:
        yield from _answer_block(predictor, method, enumerate(lines, number), line_format, options)
        number += len(lines)


def _answer_block(
    predictor: Predictor,
    method: str,
    lines: Iterable[tuple[int, bytes]],
    line_format: str,
    options: dict[str, Any],
) -> list[LineAnswer]:
    errors: dict[int, str] = {}
    items: dict[int, object] = {}
    for number, line in lines:
        try:
            items[number] = _item(line, method, line_format)
        except InputError as error:
            errors[number] = f"line {number}: {error}"
    found = _answers(predictor, method, items, options, errors)
    return [
        LineAnswer(number, None, errors[number])
        if number in errors
        else LineAnswer(number, _answer(method, found[number]))
        for number in sorted([*errors, *found])
    ]


def _answers(
    predictor: Predictor,
    method: str,
    items: Mapping[int, object],
    options: dict[str, Any],
    errors: dict[int, str],
) -> dict[int, Any]:
    """Answers by line number. A line at fault goes to ``errors``, and the others are asked for again."""
    found: dict[int, Any] = {}
    rest = dict(items)
    while rest:
        numbers = list(rest)
        answers = predictor.stream(method, list(rest.values()), **options)
        try:
            for number, answer in zip(numbers, answers, strict=True):
                found[number] = answer
                del rest[number]
        except InputError as error:
            match = _ROW.match(str(error))
            number = numbers[int(match[1])] if match else next(iter(rest))
            errors[number] = f"line {number}{str(error)[match.end() :] if match else f': {error}'}"
            del rest[number]
        else:
            break
    return found


def _answer(method: str, answer: Any) -> dict[str, Any]:
    if method in _WRAPPED:
        return {_WRAPPED[method]: answer.tolist() if method == "embed" else answer}
    result: dict[str, Any] = answer
    return result


def _item(line: bytes, method: str, line_format: str) -> object:
    """What a line asks for; InputError if it is no text or not the JSON that the method needs."""
    try:
        text = line.decode().removeprefix("\ufeff")  # some editors put one at the start of a file
    except UnicodeDecodeError as error:
        raise InputError(f"no valid UTF-8 ({error.reason} at byte {error.start})") from None
    keys = _KEYS[method]
    if line_format == "text" or (line_format == "auto" and not text.lstrip().startswith("{")):
        if len(keys) == 2 and keys[1] != _OPTIONAL:
            raise InputError(f"this model needs JSON lines: {_example(keys)}")
        return text.rstrip("\r")
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "nested too deeply"
        hint = "; --format text takes lines as they are" if line_format == "auto" else ""
        raise InputError(f"no valid JSON ({reason}){hint}") from None
    if not isinstance(record, dict):
        raise InputError(f"no JSON object; write {_example(keys)}")
    missing = [key for key in keys if key not in record and key != _OPTIONAL]
    if missing:
        raise InputError(f"{missing[0]!r} is missing; write {_example(keys)}")
    values = tuple(record[key] for key in keys if key in record)
    return values[0] if len(values) == 1 else values


def _example(keys: Sequence[str]) -> str:
    return json.dumps(
        {key: ["...", "..."] if key == "choices" else "..." for key in keys if key != _OPTIONAL}
    )
