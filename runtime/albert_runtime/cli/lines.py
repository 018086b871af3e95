"""Reads lines of text or JSON and answers each: what albert-predict does between its input and its output."""

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

_BLOCK_BYTES = 2**16
_ROW = re.compile(r"row (\d+)")
# The keys of a JSON line for each method. A plain line of text is the value of the first key.
_JSON_KEYS = {
    "classify": ("text", "pair"),
    "embed": ("text", "pair"),
    "tag": ("text",),
    "fill_mask": ("text",),
    "answer": ("question", "context"),
    "choose": ("prompt", "choices"),
}
_OPTIONAL_KEY = "pair"
# Methods whose answers are not JSON objects, with the key to put them under.
_ANSWER_KEYS = {"tag": "entities", "embed": "embedding"}


@dataclass(frozen=True, slots=True)
class LineResult:
    """The result of one input line.

    Attributes:
        number: The line's number, from 1.
        answer: The answer, ready for JSON; None if the line failed.
        error: Why it failed, naming the line; None if it was answered.
    """

    number: int
    answer: dict[str, Any] | None
    error: str | None = None


def read_lines(descriptor: int) -> Iterator[list[bytes]]:
    """The lines of a file descriptor, without line ends, in blocks of as many as can be read at a time."""
    rest: list[bytes] = []
    while block := os.read(descriptor, _BLOCK_BYTES):
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
) -> Iterator[LineResult]:
    """Answer every line, in order, each block of lines as soon as it has been read.

    Args:
        predictor: The model.
        blocks: Lines, in blocks.
        line_format: One of FORMATS.
        options: Options of the method for the model's task, such as ``top_k``.

    Returns:
        One result for each line; a line that cannot be answered does not affect the others.

    Raises:
        InputError: The model cannot answer texts, or has no such option.
    """
    task = predictor.task
    method = "albert-predict" if task is None else method_of_task(task)
    predictor.stream(method, (), **options)  # raises for the model or an option before any line is read
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
) -> list[LineResult]:
    errors: dict[int, str] = {}
    items: dict[int, object] = {}
    for number, line in lines:
        try:
            items[number] = _item(line, method, line_format)
        except InputError as error:
            errors[number] = f"line {number}: {error}"
    answers = _answers(predictor, method, items, options, errors)
    return [
        LineResult(number, None, errors[number])
        if number in errors
        else LineResult(number, _as_object(method, answers[number]))
        for number in sorted([*errors, *answers])
    ]


def _answers(
    predictor: Predictor,
    method: str,
    items: Mapping[int, object],
    options: dict[str, Any],
    errors: dict[int, str],
) -> dict[int, Any]:
    """The answers by line number. A line that fails goes to ``errors``, and the rest are tried again."""
    answers: dict[int, Any] = {}
    pending = dict(items)
    while pending:
        numbers = list(pending)
        stream = predictor.stream(method, list(pending.values()), **options)
        try:
            for number, answer in zip(numbers, stream, strict=True):
                answers[number] = answer
                del pending[number]
        except InputError as error:
            match = _ROW.match(str(error))
            number = numbers[int(match[1])] if match else next(iter(pending))
            errors[number] = f"line {number}{str(error)[match.end() :] if match else f': {error}'}"
            del pending[number]
        else:
            break
    return answers


def _as_object(method: str, answer: Any) -> dict[str, Any]:
    """The answer as a JSON object."""
    if method in _ANSWER_KEYS:
        return {_ANSWER_KEYS[method]: answer.tolist() if method == "embed" else answer}
    result: dict[str, Any] = answer
    return result


def _item(line: bytes, method: str, line_format: str) -> object:
    """A line as the method takes it; InputError if it is not UTF-8, or not the JSON that the method needs."""
    try:
        text = line.decode().removeprefix(
            "\ufeff"
        )  # the byte order mark that some editors put at the start of a file
    except UnicodeDecodeError as error:
        raise InputError(f"not valid UTF-8 ({error.reason} at byte {error.start})") from None
    keys = _JSON_KEYS[method]
    if line_format == "text" or (line_format == "auto" and not text.lstrip().startswith("{")):
        if len(keys) == 2 and keys[1] != _OPTIONAL_KEY:
            raise InputError(f"this model needs JSON lines: {_example(keys)}")
        return text.rstrip("\r")
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "nested too deeply"
        hint = "; --format text reads every line as text" if line_format == "auto" else ""
        raise InputError(f"not valid JSON ({reason}){hint}") from None
    if not isinstance(record, dict):
        raise InputError(f"not a JSON object; write {_example(keys)}")
    missing = [key for key in keys if key not in record and key != _OPTIONAL_KEY]
    if missing:
        raise InputError(f"{missing[0]!r} is missing; write {_example(keys)}")
    values = tuple(record[key] for key in keys if key in record)
    return values[0] if len(values) == 1 else values


def _example(keys: Sequence[str]) -> str:
    return json.dumps(
        {key: ["...", "..."] if key == "choices" else "..." for key in keys if key != _OPTIONAL_KEY}
    )
