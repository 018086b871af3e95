"""Texts to token ids by the artifact's tokenizer.json (package ``tokenizers``, imported on first use)."""

import importlib
import os
import sys
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ArtifactError, BackendError, InputError

Text = str | tuple[str, str]

_CLOSED_UP = (".", ",", "!", "?")
MASKS = ("[MASK]", "<mask>")

_encoders: "weakref.WeakSet[TextEncoder]" = weakref.WeakSet()
# Whether this process was forked from one that may have used the library, whose threads are not here: what it
# does on several of them would wait for ever.
_one_by_one = False


@dataclass(frozen=True, slots=True)
class Encoded:
    """The tokens of one text or pair, special tokens included; all lists have one entry a token.

    ``spans``: characters [start, end) of the text that a token stands for, without the spaces around them;
    empty for special tokens. ``words``: number of the word within its text, None for special tokens.
    ``parts``: 0 or 1 for a token of the first or second text, None for special tokens.
    """

    ids: list[int]
    types: list[int]
    spans: list[tuple[int, int]]
    words: list[int | None]
    parts: list[int | None]


class TextEncoder:
    """Encodes texts and pairs with the tokenizer's own special tokens and token types. Thread-safe."""

    def __init__(
        self,
        content: bytes,
        max_length: int | None,
        *,
        keep_first: bool = False,
        file: str = "tokenizer.json",
    ) -> None:
        """``content``: of a tokenizer.json, which is parsed on first use; ``file`` names it in errors.

        ``max_length``: tokens that ``truncate`` cuts to, None = unknown. The file's own truncation says only
        at which side texts are cut. A pair too long loses tokens of its longer text, with ``keep_first`` of
        its second text only.
        """
        self._content, self._file = content, file
        self._max_length = max_length
        self._strategy = "only_second" if keep_first else "longest_first"
        self._reset()
        _encoders.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        # Truncation is a state of a tokenizer, so each of the two modes has its own: threads may mix them.
        self._tokenizers: dict[bool, Any] = {}

    def __call__(self, texts: Sequence[Text], truncate: bool) -> tuple[list[list[int]], list[list[int]]]:
        """(token ids, token type ids) of each row; too long texts are cut only with ``truncate``.

        Cutting drops tokens of the text and keeps the final [SEP].
        """
        tokenizer = self._tokenizer(truncate)
        try:
            encodings = _encode_batch(tokenizer, texts, offsets=False)
        except Exception as error:
            raise InputError(_refusal(tokenizer, texts, 0, error)) from None
        return [item.ids for item in encodings], [item.type_ids for item in encodings]

    def encode(self, texts: Sequence[Text], truncate: bool, first_row: int = 0) -> list[Encoded]:
        """As calling, with what each token stands for; ``first_row`` is the first text's number in errors."""
        tokenizer = self._tokenizer(truncate)
        try:
            encodings = _encode_batch(tokenizer, texts)
        except Exception as error:
            raise InputError(_refusal(tokenizer, texts, first_row, error)) from None
        return [_encoded(item, text) for item, text in zip(encodings, texts, strict=True)]

    def count(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, without special ones."""
        encodings = _encode_batch(self._tokenizer(False), texts, offsets=False, add_special_tokens=False)
        return [len(item.ids) for item in encodings]

    def windows(self, question: str, context: str, stride: int, row: int = 0) -> list[Encoded]:
        """The question with every stretch of the context that fits; neighbours share ``stride`` tokens.

        InputError if the question leaves no room for the context.
        """
        tokenizer = self._tokenizer(False)
        try:
            first, second = (tokenizer.encode(text, add_special_tokens=False) for text in (question, context))
        except Exception as error:
            raise InputError(_refusal(tokenizer, [(question, context)], row, error)) from None
        if self._max_length is not None:
            room = self._max_length - len(first.ids) - tokenizer.num_special_tokens_to_add(True)
            if room < 1:
                raise InputError(
                    f"row {row}: the question is {len(first.ids)} tokens long and leaves no room for the "
                    f"context within the {self._max_length} tokens that the model takes; shorten it"
                )
            if len(second.ids) > room:
                second.truncate(room, stride=min(stride, room // 2))
        whole = tokenizer.post_process(first, second, True)
        # The library sets the types of special tokens in every window, those of the texts in the first only.
        types = dict(zip(whole.sequence_ids, whole.type_ids, strict=True))
        windows = [_encoded(item, (question, context)) for item in (whole, *whole.overflowing)]
        for window in windows:
            pairs = zip(window.parts, window.types, strict=True)
            window.types[:] = [given if part is None else types[part] for part, given in pairs]
        return windows

    def mask(self) -> tuple[int, str]:
        """Id and spelling of the mask token; InputError if the tokenizer has none."""
        tokenizer = self._tokenizer(False)
        for text in MASKS:
            token = tokenizer.token_to_id(text)
            if token is not None:
                return int(token), text
        raise InputError(f"{self._file} has no mask token ({' or '.join(MASKS)})")

    def piece(self, token: int) -> tuple[str, bool]:
        """What a token adds to a text, and whether it continues the word before it."""
        tokenizer = self._tokenizer(False)
        text = tokenizer.id_to_token(token) or ""
        kinds = (type(tokenizer.model).__name__, type(tokenizer.decoder).__name__)
        if "Unigram" in kinds or "Metaspace" in kinds:  # the pieces that begin a word are marked
            return (text[1:], False) if text.startswith("▁") else (text, True)
        # The signs are transformers' too, which closes them up when it decodes word pieces.
        return (text[2:], True) if text.startswith("##") else (text, text in _CLOSED_UP)

    def _tokenizer(self, truncate: bool) -> Any:
        truncate = truncate and self._max_length is not None
        with self._lock:
            if truncate not in self._tokenizers:
                self._tokenizers[truncate] = self._load(truncate)
            return self._tokenizers[truncate]

    def _load(self, truncate: bool) -> Any:
        try:
            tokenizers = importlib.import_module("tokenizers")
        except ImportError:
            raise BackendError(
                "texts need the package tokenizers; pip install 'albert-runtime[text]', or pass token ids"
            ) from None
        try:
            tokenizer = tokenizers.Tokenizer.from_buffer(self._content)
        except Exception as error:
            raise ArtifactError(
                f"{self._file} is no tokenizer ({error}); restore it or export again"
            ) from None
        # The file may bring modes of its own; padding would become tokens, and cutting is the caller's
        # decision.
        side = (tokenizer.truncation or {}).get("direction", "right")
        tokenizer.no_padding()
        tokenizer.no_truncation()
        if truncate:
            tokenizer.enable_truncation(self._max_length, strategy=self._strategy, direction=side)
        return tokenizer


def _encode_batch(
    tokenizer: Any, texts: Sequence[Text], *, offsets: bool = True, add_special_tokens: bool = True
) -> list[Any]:
    """The library's Encoding of each text or pair; without ``offsets`` their spans are not to be used."""
    if _one_by_one:
        pairs = [(text, None) if isinstance(text, str) else text for text in texts]
        return [tokenizer.encode(*pair, add_special_tokens=add_special_tokens) for pair in pairs]
    encode = tokenizer.encode_batch if offsets else tokenizer.encode_batch_fast
    encodings: list[Any] = encode(texts, add_special_tokens=add_special_tokens)
    return encodings


def _reset_after_fork() -> None:
    # The parent's tokenizers may be locked by threads that are not here.
    global _one_by_one  # noqa: PLW0603
    _one_by_one = _one_by_one or "tokenizers" in sys.modules
    for encoder in _encoders:
        encoder._reset()


os.register_at_fork(after_in_child=_reset_after_fork)


def _encoded(item: Any, text: Text) -> Encoded:
    texts = (text,) if isinstance(text, str) else text
    parts: list[int | None] = item.sequence_ids
    spans = [
        (0, 0) if part is None else _trimmed(texts[part], start, end)
        for part, (start, end) in zip(parts, item.offsets, strict=True)
    ]
    return Encoded(item.ids, item.type_ids, spans, item.word_ids, parts)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """SentencePiece counts the space before a word to its first piece; users do not."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _refusal(tokenizer: Any, texts: Sequence[Text], first_row: int, error: Exception) -> str:
    for row, text in enumerate(texts, first_row):
        try:
            "".join(text).encode()
        except UnicodeEncodeError as reason:
            return f"row {row} is no valid Unicode ({reason.reason}); repair how the text was decoded"
    for row, text in enumerate(texts, first_row):
        try:
            _encode_batch(tokenizer, [text], offsets=False)
        except Exception as reason:
            return f"row {row} cannot be tokenized ({reason})"
    return f"the texts cannot be tokenized ({error})"
