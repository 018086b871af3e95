"""fill_mask: texts with [MASK] to the likeliest words."""

import logging
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact.tasks import MASKED_LM, PREDICTION_SCORES, PRETRAINING
from ..backends.base import Outputs
from ..errors import InputError
from .checks import validate_count, validate_text
from .encoded import Encoded
from .scores import softmax
from .task_method import Answer, RowGroup, TextMethod, TextModel
from .tokenizer import TextEncoder
from .words import is_cjk, is_one_word

_log = logging.getLogger("albert_runtime")


class FillMask(TextMethod):
    """Texts with masks to their likeliest words."""

    tasks = (MASKED_LM, PRETRAINING)
    usage = "fill_mask(text)"
    options = ("truncate", "top_k", "targets")
    outputs = (PREDICTION_SCORES,)
    pairs = False

    def __init__(
        self,
        model: TextModel,
        *,
        truncate: bool = False,
        top_k: int = 5,
        targets: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(model, truncate=truncate)
        self.top_k = validate_count("top_k", top_k)
        self._mask, self._spelling = model.encoder.mask()
        self._targets = None if targets is None else _target_tokens(model.encoder, targets)

    def row_groups(self, items: Sequence[Any], first_row: int) -> list[list[RowGroup]]:
        """See TaskMethod.row_groups."""
        found = super().row_groups(items, first_row)
        for row, groups in enumerate(found, first_row):
            if self._mask not in groups[0][0].ids:
                raise InputError(
                    f"row {row} has no {self._spelling} to fill; write it where a word is wanted"
                )
        return found

    def score_columns(self, row: Encoded) -> list[int]:
        """See TaskMethod.score_columns."""
        return [column for column, token in enumerate(row.ids) if token == self._mask]

    def extract(self, outputs: Outputs, groups: Sequence[RowGroup]) -> list[Any]:
        """See TaskMethod.extract."""
        rows = iter(outputs[PREDICTION_SCORES])
        return [[self._best(next(rows)) for _ in self.score_columns(group[0])] for group in groups]

    def _best(self, scores: Any) -> list[tuple[int, float]]:
        probabilities = softmax(scores)
        if self._targets is None:
            count = min(self.top_k, len(probabilities))
            best = np.argpartition(-probabilities, count - 1)[:count]
        else:
            best = self._targets[self._targets < len(probabilities)]
        best = best[np.lexsort((best, -probabilities[best]))][: self.top_k]
        return [(int(token), float(probabilities[token])) for token in best]

    def answer(self, item: str, groups: Sequence[RowGroup], partials: Sequence[Any]) -> Answer:
        """See TaskMethod.answer."""
        row = groups[0][0]
        spans = [row.spans[column] for column in self.score_columns(row)]
        found = [
            [(*self.model.encoder.piece(token), probability) for token, probability in best]
            for best in partials[0]
        ]
        pieces = [best[0][:2] for best in found]
        masks = []
        for index, best in enumerate(found):
            candidates = [
                {
                    "token": piece,
                    "score": probability,
                    "text": _filled(item, spans, [*pieces[:index], (piece, inner), *pieces[index + 1 :]]),
                }
                for piece, inner, probability in best
            ]
            masks.append({"start": spans[index][0], "end": spans[index][1], "candidates": candidates})
        return {"text": _filled(item, spans, pieces), "masks": masks}


def _target_tokens(encoder: TextEncoder, targets: str | Sequence[str]) -> NDArray[np.int64]:
    """The token of each target, each once: the target itself, or the first token of it as a text."""
    words = [targets] if isinstance(targets, str) else targets
    if not isinstance(words, Sequence) or not words or not all(isinstance(word, str) for word in words):
        raise InputError("targets must be a string or strings, at least one")
    tokens = []
    for index, word in enumerate(words):
        validate_text(word, index, "a string", what="target")
        found = encoder.tokens_of_word(word)
        if not found:
            raise InputError(f"target {index} has no token; leave it out")
        if len(found) > 1:
            _log.warning("target %r is %d tokens long; its first one stands for it", word[:40], len(found))
        tokens.append(found[0])
    return np.array(sorted(set(tokens)), np.int64)


def _filled(text: str, spans: Sequence[tuple[int, int]], pieces: Sequence[tuple[str, bool]]) -> str:
    """The text with a piece in every span, and spaces around it as transformers' decoders put them.

    A piece that continues a word joins the text before it; others stand apart, but not from Chinese
    characters and from an opening sign. The text after a piece is a word of its own.
    """
    filled, at = "", 0
    for (start, end), (piece, inner) in zip(spans, pieces, strict=True):
        between = text[at:start]
        filled += _space(filled, between) + between
        if inner:
            filled = filled.rstrip()
        elif piece and not _is_open(filled, piece):
            filled += " "
        filled += piece
        at = end
    return filled + _space(filled, text[at:]) + text[at:]


def _space(before: str, after: str) -> str:
    return " " if is_one_word(before[-1:], after[:1]) else ""


def _is_open(before: str, piece: str) -> bool:
    """Whether a word that follows a text needs no space before it."""
    last = before[-1:]
    if not last or last.isspace() or is_cjk(last) or is_cjk(piece[0]):
        return True
    if last in "\"'":  # opens where a word could begin
        return not before[:-1] or before[-2].isspace()
    return unicodedata.category(last) in ("Ps", "Pi")
