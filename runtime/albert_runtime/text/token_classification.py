"""Answers within a text: entities and filled masks."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..artifact.tasks import MASKED_LM, PRETRAINING, TOKEN_CLASSIFICATION
from ..errors import InputError
from .classification import validate_count
from .task_method import Answer, Results, Setting, TextMethod, Unit, is_mark, joined, softmax
from .tokenizer import Encoded

_SCHEME = re.compile(r"([BIESLU])-(.+)", re.DOTALL)
_OUTSIDE = "O"


class Tag(TextMethod):
    """Texts to the entities in them."""

    tasks = (TOKEN_CLASSIFICATION,)
    usage = "tag(texts)"
    options = ("truncate",)
    outputs = ("logits",)
    pairs = False

    def __init__(self, setting: Setting, *, truncate: bool = False) -> None:
        super().__init__(setting, truncate=truncate)
        # Part-of-speech labels have neither an outside nor beginnings: neighbours of one label stay apart.
        self._merge = any(label == _OUTSIDE or _SCHEME.fullmatch(label) for label in setting.labels)

    def reduce(self, results: Results, units: Sequence[Unit]) -> list[Any]:
        """See Method.reduce."""
        kept = []
        for logits, unit in zip(results["logits"], units, strict=True):
            shares = softmax(logits[: len(unit[0].ids)])
            kept.append((shares.argmax(axis=-1), shares.max(axis=-1)))
        return kept

    def answer(self, item: str, units: Sequence[Unit], kept: Sequence[Any]) -> list[Answer]:
        """See Method.answer."""
        best, scores = kept[0]
        entities: list[Answer] = []
        open_kind, members = "", 0
        for token, start, end in _words(item, units[0][0]):
            label, score = self.setting.labels[best[token]], float(scores[token])
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
        end = _with_marks(text, bare_end)
        if words and word == previous and (start < words[-1][2] or _continues(text, start, words[-1][2])):
            first, begin, stop = words[-1]
            words[-1] = (first, begin, max(stop, end))
        else:
            words.append((token if word == previous else firsts.get(word, token), start, end))
        previous = word
    return words


def _with_marks(text: str, end: int) -> int:
    """The end with the accents that follow, which tokenizers drop."""
    while end < len(text) and is_mark(text[end]):
        end += 1
    return end


def _continues(text: str, start: int, end: int) -> bool:
    return start == end and joined(text[start - 1], text[start])


class FillMask(TextMethod):
    """Texts with masks to their likeliest words."""

    tasks = (MASKED_LM, PRETRAINING)
    usage = "fill_mask(text)"
    options = ("truncate", "top_k")
    outputs = ("prediction_scores",)
    pairs = False

    def __init__(self, setting: Setting, *, truncate: bool = False, top_k: int = 5) -> None:
        super().__init__(setting, truncate=truncate)
        self.top_k = validate_count("top_k", top_k)
        self._mask, self._spelling = setting.encoder.mask()

    def units(self, items: Sequence[Any], first_row: int) -> list[list[Unit]]:
        """See Method.units."""
        found = super().units(items, first_row)
        for row, units in enumerate(found, first_row):
            if self._mask not in units[0][0].ids:
                raise InputError(
                    f"row {row} has no {self._spelling} to fill; write it where a word is wanted"
                )
        return found

    def positions(self, unit: Unit) -> list[int]:
        """See Method.positions."""
        return [column for column, token in enumerate(unit[0].ids) if token == self._mask]

    def reduce(self, results: Results, units: Sequence[Unit]) -> list[Any]:
        """See Method.reduce."""
        rows = iter(results["prediction_scores"])
        return [[self._best(next(rows)) for _ in self.positions(unit)] for unit in units]

    def _best(self, scores: Any) -> list[tuple[int, float]]:
        shares = softmax(scores)
        count = min(self.top_k, len(shares))
        best = np.argpartition(-shares, count - 1)[:count]
        best = best[np.lexsort((best, -shares[best]))]
        return [(int(token), float(shares[token])) for token in best]

    def answer(self, item: str, units: Sequence[Unit], kept: Sequence[Any]) -> Answer:
        """See Method.answer."""
        row = units[0][0]
        spans = [row.spans[column] for column in self.positions(units[0])]
        found = [[(*self.setting.encoder.piece(token), share) for token, share in best] for best in kept[0]]
        pieces = [best[0][:2] for best in found]
        masks = []
        for index, best in enumerate(found):
            candidates = [
                {
                    "token": piece,
                    "score": share,
                    "text": _filled(item, spans, [*pieces[:index], (piece, inner), *pieces[index + 1 :]]),
                }
                for piece, inner, share in best
            ]
            masks.append({"start": spans[index][0], "end": spans[index][1], "candidates": candidates})
        return {"text": _filled(item, spans, pieces), "masks": masks}


def _filled(text: str, spans: Sequence[tuple[int, int]], pieces: Sequence[tuple[str, bool]]) -> str:
    """The text with a piece in every span; a piece that continues a word joins what is before it."""
    filled, at = "", 0
    for (start, end), (piece, inner) in zip(spans, pieces, strict=True):
        filled += text[at:start]
        if inner:
            filled = filled.rstrip()
        elif joined(filled[-1:], piece[:1]):
            filled += " "
        filled += piece
        at = end
    return filled + text[at:]
