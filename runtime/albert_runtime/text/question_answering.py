"""answer: a question and a context to the span of the context that answers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact.tasks import QUESTION_ANSWERING, SPAN_LOGITS
from ..backends.base import Outputs
from ..errors import InputError
from .checks import validate_count, validate_row, validate_text
from .encoded import Encoded
from .task_method import Answer, RowGroup, TaskMethod, TextModel
from .words import is_one_word


class AnswerQuestion(TaskMethod):
    """(question, context) to the span of the context that answers.

    Long contexts run in windows that share ``stride`` tokens; the best span of all windows wins. With
    ``allow_no_answer`` it has to win against the empty one, too.
    """

    tasks = (QUESTION_ANSWERING,)
    usage = "answer(question, context)"
    options = ("stride", "max_tokens", "allow_no_answer")
    outputs = SPAN_LOGITS

    def __init__(
        self, model: TextModel, *, stride: int = 128, max_tokens: int = 30, allow_no_answer: bool = False
    ) -> None:
        super().__init__(model)
        self.stride = validate_count("stride", stride)
        self.max_tokens = validate_count("max_tokens", max_tokens)
        self.allow_no_answer = allow_no_answer

    def validate(self, item: object, row: int) -> tuple[str, ...]:
        """See TaskMethod.validate."""
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise InputError(f"row {row} must be a pair (question, context)")
        return tuple(validate_text(part, row, "a string") for part in item)

    def row_groups(self, items: Sequence[Any], first_row: int) -> list[list[RowGroup]]:
        """See TaskMethod.row_groups."""
        found: list[list[RowGroup]] = []
        for row, item in enumerate(items, first_row):
            windows = self.model.encoder.windows(item, self.stride, row)
            for window in windows:
                validate_row(window, f"row {row}", self.model.limits)
            found.append([[window] for window in windows])
        return found

    def extract(self, outputs: Outputs, groups: Sequence[RowGroup]) -> list[Any]:
        """See TaskMethod.extract."""
        starts, ends = (outputs[name].astype(np.float64) for name in self.outputs)
        lengths = [len(group[0].ids) for group in groups]
        return [(starts[row, :length], ends[row, :length]) for row, length in enumerate(lengths)]

    def answer(self, item: Any, groups: Sequence[RowGroup], partials: Sequence[Any]) -> Answer:
        """See TaskMethod.answer.

        A span's score is its probability among all spans of all windows, their first tokens included: models
        that know of questions without answer point there. So they do in windows that miss it, and
        the empty span therefore counts as in the window where it is least likely.
        """
        best, found, weights, empty = -np.inf, (0, 0), [], np.inf
        for group, (starts, ends) in zip(groups, partials, strict=True):
            context = np.array([part == 1 for part in group[0].parts])
            counted = context.copy()
            counted[0] = True
            weights.append(_log_sum(starts[counted]) + _log_sum(ends[counted]))
            value, first, last = self._best_span(
                np.where(context, starts, -np.inf),
                np.where(context & _with_characters(group[0]), ends, -np.inf),
            )
            if value > best:
                best, found = value, (group[0].spans[first][0], group[0].spans[last][1])
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
        while start > 0 and is_one_word(context[start - 1], context[start]):
            start -= 1
        while end < len(context) and is_one_word(context[end - 1], context[end]):
            end += 1
    return start, end


def _log_sum(values: NDArray[np.float64]) -> float:
    top = values.max()
    return float(top + np.log(np.exp(values - top).sum()))
