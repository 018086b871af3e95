"""Refuses a request that is too large for this server, before the model runs."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..artifact.manifest import Manifest
from ..errors import InputError
from ..predictor import Predictor
from ..text.long_texts import count_characters
from ..text.tokenizer import MASKS
from .limits import ServerLimits
from .model_metadata import output_metadata

_MAX_SPECIAL_TOKENS = 3  # of a row: [CLS] a [SEP] b [SEP]
_CANDIDATE_BYTES = 100  # of a candidate for a mask, beside the text in which it is filled in
_DEFAULT_TOP_K = 5


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The limits on one request to one model. Each check raises InputError with the size and the limit."""

    server: ServerLimits
    predictor: Predictor
    manifest: Manifest

    def check_texts(self, items: Sequence[Any], longest: int | None = None) -> None:
        """Refuse too many texts, or texts with too many tokens.

        ``longest``: tokens of an item that are computed at most, because the rest is cut or the item refused;
        None for items of any length.
        """
        if len(items) > self.server.max_texts:
            raise InputError(
                f"the request has {len(items)} texts; this server takes {self.server.max_texts} at most"
            )
        characters, most = count_characters(items), self.server.max_tokens
        # A token is seldom shorter than a character, so most requests need no counting.
        if characters <= most:
            return
        at_most = most + 1 if longest is None else longest
        tokens = whole = 0
        for row, item in enumerate(items):
            texts = [text for text in strings_in([item]) if text.strip()]
            counts = [self._count(text, at_most, row) for text in texts]
            tokens += min(sum(counts), at_most)
            whole += sum(len(text) for text, count in zip(texts, counts, strict=True) if count < at_most)
            if tokens > most:
                raise InputError(
                    f"the texts have more than {most} tokens in all; this server takes {most} at most"
                )
        if whole > self.server.max_characters:
            raise InputError(
                f"the texts have {whole} characters in all, which is far more than their tokens need; "
                f"this server takes {self.server.max_characters} at most"
            )

    def _count(self, text: str, at_most: int, row: int) -> int:
        try:
            return self.predictor.count_tokens([text], at_most=at_most)[0]
        except InputError as error:
            raise InputError(str(error).replace("row 0", f"row {row}", 1)) from None

    def check_token_count(self, name: str, tokens: int) -> None:
        """Refuse an input of token ids that has too many of them, padding included."""
        if tokens > self.server.max_tokens:
            raise InputError(
                f"input {name} has {tokens} tokens; this server takes {self.server.max_tokens} at most"
            )

    def check_outputs(self, rows: int, width: int, outputs: Sequence[str] | None) -> None:
        """Refuse a request whose outputs would be too large: ``rows`` rows, padded to ``width`` tokens."""
        self._check_answer(
            self._output_bytes(rows, width, outputs),
            "fewer rows or outputs, or put rows of similar length into one request",
        )

    def check_outputs_of_texts(self, texts: Sequence[Any], outputs: Sequence[str] | None) -> None:
        """Refuse texts whose outputs would be too large, as far as they fit the model."""
        self.check_outputs(len(texts), self._padded_width(texts, outputs), outputs)

    def check_mask_candidates(self, texts: Sequence[Any], top_k: int | None) -> None:
        """Refuse a fill-mask answer that would be too large: each candidate repeats the whole text."""
        masks = [(text, sum(map(text.count, MASKS))) for text in strings_in(texts)]
        characters = sum(count * (len(text) + _CANDIDATE_BYTES) for text, count in masks)
        self._check_answer(characters * (top_k or _DEFAULT_TOP_K), "a lower top_k or fewer masks")

    def _check_answer(self, size: int, remedy: str) -> None:
        if size > self.server.max_answer_bytes:
            raise InputError(
                f"the answer would have {size} bytes; this server sends {self.server.max_answer_bytes} "
                f"at most: ask for {remedy}"
            )

    def _output_bytes(self, rows: int, width: int, outputs: Sequence[str] | None) -> int:
        size = 0
        for name, _, shape in output_metadata(self.manifest):
            if outputs is None or name in outputs:
                per_row = width if self.manifest.head.is_per_token(name) else 1
                size += 4 * rows * per_row * math.prod(known for known in shape if known > 0)
        return size

    def _padded_width(self, texts: Sequence[Any], outputs: Sequence[str] | None) -> int:
        """An upper bound on the tokens of the longest text, counted only where the limit may be near."""
        longest = self.manifest.config.max_position_embeddings
        characters = max((sum(map(len, strings_in([text]))) for text in texts), default=0)
        width = min(longest, characters + _MAX_SPECIAL_TOKENS)
        if self._output_bytes(len(texts), width, outputs) <= self.server.max_answer_bytes:
            return width
        tokens = max(
            sum(self._count(one, longest, row) for one in strings_in([text]))
            for row, text in enumerate(texts)
        )
        return min(longest, tokens + _MAX_SPECIAL_TOKENS)


def strings_in(items: Iterable[Any]) -> Iterator[str]:
    """All strings in nested lists and tuples, in order."""
    for item in items:
        if isinstance(item, str):
            yield item
        elif isinstance(item, list | tuple):
            yield from strings_in(item)
