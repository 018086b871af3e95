"""Texts to token ids by the artifact's tokenizer.json (package ``tokenizers``, imported on first use)."""

import importlib
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ..batch.checks import too_long
from ..errors import AlbertError, ArtifactError, BackendError, InputError
from .cutting import SHORT, Cutter
from .encode_batch import encode_batch
from .encoded import WHOLE, Begins, Encoded, Text, encoded

T = TypeVar("T")
# The name of a row in errors, from its index among the texts that are encoded.
RowName = Callable[[int], str]

_CLOSED_UP = (".", ",", "!", "?")
MASKS = ("[MASK]", "<mask>")
_ROW: RowName = "row {}".format

_encoders: "weakref.WeakSet[TextEncoder]" = weakref.WeakSet()


class TextEncoder:
    """Encodes texts and pairs with the tokenizer's own special tokens and token types. Thread-safe.

    Of long texts only what matters is tokenized: what ``truncate`` keeps, or what shows that a text does not
    fit the model.
    """

    def __init__(
        self,
        content: bytes,
        max_length: int | None,
        *,
        positions: int | None = None,
        keep_first: bool = False,
        file: str = "tokenizer.json",
    ) -> None:
        """``content``: of a tokenizer.json, which is parsed on first use; ``file`` names it in errors.

        ``max_length``: tokens that ``truncate`` cuts to, None = unknown. The file's own truncation says only
        at which side texts are cut. A pair too long loses tokens of its longer text, with ``keep_first`` of
        its second text only.
        """
        self._content, self._file = content, file
        self._max_length, self._positions = max_length, positions
        self._strategy = "only_second" if keep_first else "longest_first"
        self._reset()
        _encoders.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        # Truncation is a state of a tokenizer, so each of the two modes has its own: threads may mix them.
        self._tokenizers: dict[bool, Any] = {}
        self._side = "right"
        self._cutter: Cutter | None = None

    @property
    def max_length(self) -> int | None:
        """Tokens that ``truncate`` cuts to, special ones included; None = unknown."""
        return self._max_length

    def __call__(self, texts: Sequence[Text], truncate: bool) -> tuple[list[list[int]], list[list[int]]]:
        """(token ids, token type ids) of each row; too long texts are cut only with ``truncate``.

        Cutting drops tokens of the text and keeps the final [SEP].
        """
        encodings = self._encodings(texts, truncate, _ROW, offsets=False)[0]
        return [item.ids for item in encodings], [item.type_ids for item in encodings]

    def encode(self, texts: Sequence[Text], truncate: bool, name: RowName = _ROW) -> list[Encoded]:
        """As calling, with what each token stands for. ``name`` names the texts in errors."""
        encodings, cuts, begins = self._encodings(texts, truncate, name, offsets=True)
        return [encoded(item, text, begin) for item, text, begin in zip(encodings, cuts, begins, strict=True)]

    def count(self, texts: Sequence[str], at_most: int | None = None) -> list[int]:
        """How many tokens each text has, without special ones; at least ``at_most`` where it has as many."""
        if at_most is not None:
            return self._guarded(
                texts,
                _ROW,
                lambda: [self._count(one, at_most, _ROW(row)) for row, one in enumerate(texts)],
            )
        encodings = encode_batch(self._tokenizer(False), texts, offsets=False, add_special_tokens=False)
        return [len(item.ids) for item in encodings]

    def windows(self, text: Text, stride: int, row: int = 0) -> list[Encoded]:
        """Every stretch of a text that fits the model; neighbours share ``stride`` tokens.

        Of a pair (question, context) the first stays whole in every window. InputError if it leaves no room.
        """
        tokenizer = self._tokenizer(False)
        parts = (text,) if isinstance(text, str) else text
        encodings = self._guarded(
            [text],
            lambda _: f"row {row}",
            lambda: [tokenizer.encode(part, add_special_tokens=False) for part in parts],
        )
        first, last, step = encodings[0], encodings[-1], 0
        if self._max_length is not None:
            is_pair = len(parts) == 2
            room = self._max_length - tokenizer.num_special_tokens_to_add(is_pair)
            if is_pair:
                room -= len(first.ids)
            if room < 1:
                what = (
                    f"the question is {len(first.ids)} tokens long and leaves" if is_pair else "[SEP] leaves"
                )
                raise InputError(
                    f"row {row}: {what} no room for the {'context' if is_pair else 'text'} within the "
                    f"{self._max_length} tokens that the model takes; shorten it"
                )
            if len(last.ids) > room:
                shared = min(stride, room // 2)
                last.truncate(room, stride=shared)
                step = room - shared
        whole = tokenizer.post_process(*encodings)
        # The library sets the types of special tokens in every window, those of the texts in the first only.
        types = dict(zip(whole.sequence_ids, whole.type_ids, strict=True))
        windows = [
            replace(encoded(item, text), first=number * step)
            for number, item in enumerate((whole, *whole.overflowing))
        ]
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

    def tokens_of_word(self, word: str) -> list[int]:
        """The token that is spelled so in the vocabulary, or else the tokens of the word as a text."""
        tokenizer = self._tokenizer(False)
        token = tokenizer.token_to_id(word)
        if token is not None:
            return [int(token)]
        return list(tokenizer.encode(word, add_special_tokens=False).ids)

    def piece(self, token: int) -> tuple[str, bool]:
        """What a token adds to a text, and whether it continues the word before it."""
        tokenizer = self._tokenizer(False)
        text = tokenizer.id_to_token(token) or ""
        kinds = (type(tokenizer.model).__name__, type(tokenizer.decoder).__name__)
        if "Unigram" in kinds or "Metaspace" in kinds:  # the pieces that begin a word are marked
            return (text[1:], False) if text.startswith("▁") else (text, True)
        # The signs are transformers' too, which closes them up when it decodes word pieces.
        return (text[2:], True) if text.startswith("##") else (text, text in _CLOSED_UP)

    def _encodings(
        self, texts: Sequence[Text], truncate: bool, name: RowName, *, offsets: bool
    ) -> tuple[list[Any], Sequence[Text], Sequence[Begins]]:
        """The encodings of texts, what was left of each text, and at which of its characters that begins."""
        tokenizer = self._tokenizer(truncate)
        cuts = self._guarded(
            texts, name, lambda: [self._cut(text, truncate, name(row)) for row, text in enumerate(texts)]
        )
        left = [text for text, _ in cuts]
        encodings = self._guarded(left, name, lambda: encode_batch(tokenizer, left, offsets=offsets))
        return encodings, left, [begins for _, begins in cuts]

    def _cut(self, text: Text, truncate: bool, where: str) -> tuple[Text, Begins]:
        """What can matter of a text that ``truncate`` cuts, and where that begins.

        InputError, which begins with ``where``, if a long text surely does not fit and may not be cut.
        """
        parts = (text,) if isinstance(text, str) else text
        if max(map(len, parts)) <= SHORT:
            return text, WHOLE
        if truncate and self._max_length is not None:
            most = self._max_length
            spans = _naming(where, lambda: self._cutting().cut(parts, most))
            left = [part[start:stop] for part, (start, stop) in zip(parts, spans, strict=True)]
            begins = tuple(start for start, _ in spans)
            return (left[0] if isinstance(text, str) else (left[0], left[1])), begins
        if self._positions is not None:
            tokens = sum(self._count(part, self._positions + 1, where) for part in parts)
            if tokens > self._positions:
                raise too_long(where, tokens, self._positions, at_least=True)
        return text, WHOLE

    def _count(self, text: str, at_most: int, where: str) -> int:
        return _naming(where, lambda: self._cutting().count(text, at_most))

    def _cutting(self) -> Cutter:
        if self._cutter is None:
            self._cutter = Cutter(self._tokenizer(False), from_end=self._side == "left")
        return self._cutter

    def _guarded(self, texts: Sequence[Text], name: RowName, work: Callable[[], T]) -> T:
        """The result of ``work``; an InputError that names the text if the tokenizer cannot take one."""
        try:
            return work()
        except AlbertError:
            raise
        except Exception as error:
            raise InputError(_refusal(self._tokenizer(True), texts, name, error)) from None

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
        self._side = (tokenizer.truncation or {}).get("direction", "right")
        tokenizer.no_padding()
        tokenizer.no_truncation()
        if truncate:
            tokenizer.enable_truncation(self._max_length, strategy=self._strategy, direction=self._side)
        return tokenizer


def _naming(where: str, work: Callable[[], T]) -> T:
    """The result of ``work``, whose InputError then says which text it is."""
    try:
        return work()
    except InputError as error:
        raise InputError(f"{where} {error}") from None


def _refusal(tokenizer: Any, texts: Sequence[Text], name: RowName, error: Exception) -> str:
    for row, text in enumerate(texts):
        try:
            "".join(text).encode()
        except UnicodeEncodeError as reason:
            return f"{name(row)} is no valid Unicode ({reason.reason}); repair how the text was decoded"
    for row, text in enumerate(texts):
        try:
            encode_batch(tokenizer, [text], offsets=False)
        except Exception as reason:
            return f"{name(row)} cannot be tokenized ({reason})"
    return f"the texts cannot be tokenized ({error})"


def _reset_after_fork() -> None:
    # The parent's tokenizers may be locked by threads that are not here.
    for encoder in _encoders:
        encoder._reset()


os.register_at_fork(after_in_child=_reset_after_fork)
