"""Texts to token ids by the artifact's tokenizer.json (package ``tokenizers``, imported on first use)."""

import importlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import ArtifactError, BackendError, InputError


class TextEncoder:
    """Encodes texts and pairs with the tokenizer's own special tokens and token types. Thread-safe."""

    def __init__(self, path: Path, max_length: int | None) -> None:
        """``max_length``: tokens that ``truncate`` cuts to, None = unknown. The file is read on first use."""
        self._path = path
        self._max_length = max_length
        self._lock = threading.Lock()
        # Truncation is a state of a tokenizer, so each of the two modes has its own: threads may mix them.
        self._tokenizers: dict[bool, Any] = {}

    def __call__(
        self, texts: Sequence[str | tuple[str, str]], truncate: bool
    ) -> tuple[list[list[int]], list[list[int]]]:
        """(token ids, token type ids) of each row; too long texts are cut only with ``truncate``.

        Cutting drops tokens of the text, the longer one of a pair first, and keeps the final [SEP].
        """
        tokenizer = self._tokenizer(truncate and self._max_length is not None)
        try:
            encodings = tokenizer.encode_batch_fast(texts)
        except Exception as error:
            raise InputError(_refusal(texts, error)) from None
        return [item.ids for item in encodings], [item.type_ids for item in encodings]

    def _tokenizer(self, truncate: bool) -> Any:
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
            tokenizer = tokenizers.Tokenizer.from_file(str(self._path))
        except Exception as error:
            raise ArtifactError(
                f"{self._path} is no tokenizer ({error}); restore it or export again"
            ) from None
        # The file may bring modes of its own; padding would become tokens, and cutting is the caller's
        # decision.
        tokenizer.no_padding()
        tokenizer.no_truncation()
        if truncate:
            tokenizer.enable_truncation(self._max_length)
        return tokenizer


def _refusal(texts: Sequence[str | tuple[str, str]], error: Exception) -> str:
    for row, text in enumerate(texts):
        try:
            "".join(text).encode()
        except UnicodeEncodeError as reason:
            return f"row {row} is no valid Unicode ({reason.reason}); repair how the text was decoded"
    return f"the texts cannot be tokenized ({error})"
