"""Rows of tokens that were made of texts, and what in the texts each token stands for."""

from dataclasses import dataclass
from typing import Any

Text = str | tuple[str, str]
# For the one or two texts of a row: the character from which on it was tokenized.
Begins = tuple[int, ...]
WHOLE: Begins = (0, 0)


@dataclass(frozen=True, slots=True)
class Encoded:
    """The tokens of one text or pair, special tokens included; all lists have one entry a token.

    ``spans``: characters [start, end) of the text that a token stands for, without the spaces around them;
    empty for special tokens. ``words``: number of the word within its text, None for special tokens.
    ``parts``: 0 or 1 for a token of the first or second text, None for special tokens. ``first``: of a
    window, how many tokens of its text come before it.
    """

    ids: list[int]
    types: list[int]
    spans: list[tuple[int, int]]
    words: list[int | None]
    parts: list[int | None]
    first: int = 0


def encoded(item: Any, text: Text, begins: Begins = WHOLE) -> Encoded:
    """The row of an encoding of the library's, made of ``text``, which is what is left of the caller's."""
    texts = (text,) if isinstance(text, str) else text
    parts: list[int | None] = item.sequence_ids
    spans = [
        (0, 0) if part is None else _trimmed(texts[part], start, end)
        for part, (start, end) in zip(parts, item.offsets, strict=True)
    ]
    if any(begins):
        spans = [
            span if part is None else (span[0] + begins[part], span[1] + begins[part])
            for part, span in zip(parts, spans, strict=True)
        ]
    return Encoded(item.ids, item.type_ids, spans, item.word_ids, parts)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """SentencePiece counts the space before a word to its first piece; users do not."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end
