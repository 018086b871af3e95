"""tag: texts to the entities in them."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact.tasks import LOGITS, TOKEN_CLASSIFICATION
from ..backends.base import Outputs
from .checks import validate_count, validate_row
from .encoded import Encoded
from .scores import softmax
from .task_method import Answer, RowGroup, TextMethod, TextModel
from .words import is_one_word, with_marks

_SCHEME = re.compile(r"([BIESLU])-(.+)", re.DOTALL)
_OUTSIDE = "O"


class Tag(TextMethod):
    """Texts to the entities in them."""

    tasks = (TOKEN_CLASSIFICATION,)
    usage = "tag(texts)"
    options = ("truncate", "stride")
    outputs = (LOGITS,)
    pairs = False

    def __init__(self, model: TextModel, *, truncate: bool = False, stride: int = 128) -> None:
        super().__init__(model, truncate=truncate)
        self.stride = validate_count("stride", stride)
        # Part-of-speech labels have neither an outside nor beginnings: neighbours of one label stay apart.
        self._merge = any(label == _OUTSIDE or _SCHEME.fullmatch(label) for label in model.labels)

    def row_groups(self, items: Sequence[Any], first_row: int) -> list[list[RowGroup]]:
        """See TaskMethod.row_groups. Long texts run in windows, unless they are to be truncated."""
        if self.truncate:
            return super().row_groups(items, first_row)
        found: list[list[RowGroup]] = []
        for row, item in enumerate(items, first_row):
            windows = self.model.encoder.windows(item, self.stride, row)
            for window in windows:
                validate_row(window, f"row {row}", self.model.limits)
            found.append([[window] for window in windows])
        return found

    def extract(self, outputs: Outputs, groups: Sequence[RowGroup]) -> list[Any]:
        """See TaskMethod.extract."""
        partials = []
        for logits, group in zip(outputs[LOGITS], groups, strict=True):
            probabilities = softmax(logits[: len(group[0].ids)])
            partials.append((probabilities.argmax(axis=-1), probabilities.max(axis=-1)))
        return partials

    def answer(self, item: str, groups: Sequence[RowGroup], partials: Sequence[Any]) -> list[Answer]:
        """See TaskMethod.answer."""
        row, best, scores = _joined([group[0] for group in groups], partials)
        entities: list[Answer] = []
        open_kind, members = "", 0
        for token, start, end in _words(item, row):
            label, score = self.model.labels[best[token]], float(scores[token])
            if label == _OUTSIDE:
                open_kind = ""
                continue
            match = _SCHEME.fullmatch(label)
            prefix, kind = match.groups() if match else ("", label)
            if kind == open_kind and prefix not in ("B", "S", "U"):
                entity = entities[-1]
                entity["text"], entity["end"] = item[entity["start"] : end], end
                entity["score"] += (score - entity["score"]) / (members + 1)
                members += 1
            else:
                entities.append(
                    {"label": kind, "text": item[start:end], "start": start, "end": end, "score": score}
                )
                members = 1
            open_kind = kind if self._merge and prefix not in ("E", "L", "S", "U") else ""
        return entities


def _joined(
    windows: Sequence[Encoded], partials: Sequence[tuple[NDArray[Any], NDArray[Any]]]
) -> tuple[Encoded, NDArray[Any], NDArray[Any]]:
    """The tokens of a text, with the label and the score of each from the window where it has most context.

    That is where the nearer end of the window is farthest away; the ends of the text itself do not count.
    """
    if len(windows) == 1:
        return windows[0], *partials[0]
    chosen: dict[int, tuple[float, int, int]] = {}  # by token of the text: context, window, column
    for number, window in enumerate(windows):
        columns = [column for column, part in enumerate(window.parts) if part is not None]
        last = len(columns) - 1
        for place, column in enumerate(columns):
            before = np.inf if number == 0 else place
            after = np.inf if number == len(windows) - 1 else last - place
            candidate = (float(min(before, after)), number, column)
            token = window.first + place
            if token not in chosen or candidate[0] > chosen[token][0]:
                chosen[token] = candidate
    picks = [(number, column) for _, number, column in (chosen[token] for token in sorted(chosen))]
    ids, types, spans, words, parts = (
        [getattr(windows[number], name)[column] for number, column in picks]
        for name in ("ids", "types", "spans", "words", "parts")
    )
    row = Encoded(ids, types, spans, words, parts)
    best, scores = (
        np.array([partials[number][index][column] for number, column in picks]) for index in (0, 1)
    )
    return row, best, scores


def _words(text: str, row: Encoded) -> list[tuple[int, int, int]]:
    """(first token, start, end) of each word. Models learn the label of a word at its first token.

    Signs such as the point after a name are words of their own, although a tokenizer may count them to the
    word before.
    """
    words: list[tuple[int, int, int]] = []
    previous: int | None = None
    # SentencePiece may begin a word with a mere space mark, which stands for no character of it.
    firsts: dict[int | None, int] = {}
    for token, ((start, bare_end), word) in enumerate(zip(row.spans, row.words, strict=True)):
        if word is not None:
            firsts.setdefault(word, token)
        if start == bare_end:
            continue
        end = with_marks(text, bare_end)
        # One character may stand for several words: U+FDFA is four, and has one label all the same.
        within = bool(words) and start < words[-1][2]
        if within or (words and word == previous and _continues(text, start, words[-1][2])):
            first, begin, stop = words[-1]
            words[-1] = (first, begin, max(stop, end))
        else:
            words.append((token if word == previous else firsts.get(word, token), start, end))
        previous = word
    return words


def _continues(text: str, start: int, end: int) -> bool:
    return start == end and is_one_word(text[start - 1], text[start])
