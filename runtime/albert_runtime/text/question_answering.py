"""Answers out of a context, however long."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact.tasks import QUESTION_ANSWERING
from ..errors import InputError
from .classification import validate_count
from .task_method import Answer, Method, Results, Setting, Unit, check_row, joined, validate_text
from .tokenizer import Encoded


class AnswerQuestion(Method):
    """(question, context) to the span of the context that answers.

    Long contexts run in windows that share ``stride`` tokens; the best span of all windows wins. With
    ``allow_no_answer`` it has to win against the empty one, too.
    """

    tasks = (QUESTION_ANSWERING,)
    usage = "answer(question, context)"
    options = ("stride", "max_tokens", "allow_no_answer")
    outputs = ("start_logits", "end_logits")

    def __init__(
        self, setting: Setting, *, stride: int = 128, max_tokens: int = 30, allow_no_answer: bool = False
    ) -> None:
        super().__init__(setting)
        self.stride = validate_count("stride", stride)
        self.max_tokens = validate_count("max_tokens", max_tokens)
        self.allow_no_answer = allow_no_answer

    def validate(self, item: object, row: int) -> tuple[str, ...]:
        """See Method.validate."""
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise InputError(f"row {row} must be a pair (question, context)")
        return tuple(validate_text(part, row, "a string") for part in item)

    def units(self, items: Sequence[Any], first_row: int) -> list[list[Unit]]:
        """See Method.units."""
        found: list[list[Unit]] = []
        for row, (question, context) in enumerate(items, first_row):
            windows = self.setting.encoder.windows(question, context, self.stride, row)
            check_row(windows[0], f"row {row}", self.setting.limits)
            found.append([[window] for window in windows])
        return found

    def reduce(self, results: Results, units: Sequence[Unit]) -> list[Any]:
        """See Method.reduce."""
        starts, ends = (results[name].astype(np.float64) for name in self.outputs)
        lengths = [len(unit[0].ids) for unit in units]
        return [(starts[row, :length], ends[row, :length]) for row, length in enumerate(lengths)]

    def answer(self, item: Any, units: Sequence[Unit], kept: Sequence[Any]) -> Answer:
        """See Method.answer.

        A span's score is its probability among all spans of all windows, their first tokens included: models
        that know of questions without answer point there. So they do in windows that miss it, and
        the empty span therefore counts as in the window where it is least likely.
        """
        best, found, weights, empty = -np.inf, (0, 0), [], np.inf
        for unit, (starts, ends) in zip(units, kept, strict=True):
            context = np.array([part == 1 for part in unit[0].parts])
            counted = context.copy()
            counted[0] = True
            weights.append(_log_sum(starts[counted]) + _log_sum(ends[counted]))
            value, first, last = self._best_span(
                np.where(context, starts, -np.inf),
                np.where(context & _with_characters(unit[0]), ends, -np.inf),
            )
            if value > best:
                best, found = value, (unit[0].spans[first][0], unit[0].spans[last][1])
            empty = min(empty, starts[0] + ends[0])
        if self.allow_no_answer and empty > best:
            best, found = empty, (0, 0)
        score = float(np.exp(best - _log_sum(np.array(weights))))
        start, end = _whole_words(item[1], *found)
        return {"text": item[1][start:end], "score": score, "start": start, "end": end}

    def _best_span(self, starts: NDArray[np.float64], ends: NDArray[np.float64]) -> tuple[float, int, int]:
        """(sum of logits, first token, last token) of the likeliest span of at most ``max_tokens``."""
        best = (-np.inf, 0, 0)
        for length in range(min(self.max_tokens, len(starts))):
            sums = starts[: len(starts) - length] + ends[length:]
            first = int(sums.argmax())
            best = max(best, (float(sums[first]), first, first + length), key=lambda span: span[0])
        return best


def _with_characters(row: Encoded) -> NDArray[np.bool_]:
    """Tokens that a span can end with. It can begin with SentencePiece's mere space mark before a word."""
    return np.array([start < end for start, end in row.spans])


def _whole_words(context: str, start: int, end: int) -> tuple[int, int]:
    """The span with the rest of a word whose piece it begins or ends with."""
    if start < end:
        while start > 0 and joined(context[start - 1], context[start]):
            start -= 1
        while end < len(context) and joined(context[end - 1], context[end]):
            end += 1
    return start, end


def _log_sum(values: NDArray[np.float64]) -> float:
    top = values.max()
    return float(top + np.log(np.exp(values - top).sum()))
