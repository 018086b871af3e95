"""Calls the tokenizers library with several texts, in a forked child too."""

import os
import sys
from collections.abc import Sequence
from typing import Any

from .encoded import Text

# Whether this process was forked from one that may have used the library, whose threads are not here: what it
# does on several of them would wait for ever.
_one_by_one = False


def encode_batch(
    tokenizer: Any, texts: Sequence[Text], *, offsets: bool = True, add_special_tokens: bool = True
) -> list[Any]:
    """The library's Encoding of each text or pair; without ``offsets`` their spans are not to be used."""
    if _one_by_one:
        pairs = [(text, None) if isinstance(text, str) else text for text in texts]
        return [tokenizer.encode(*pair, add_special_tokens=add_special_tokens) for pair in pairs]
    encode = tokenizer.encode_batch if offsets else tokenizer.encode_batch_fast
    encodings: list[Any] = encode(texts, add_special_tokens=add_special_tokens)
    return encodings


def _after_fork() -> None:
    global _one_by_one  # noqa: PLW0603
    _one_by_one = _one_by_one or "tokenizers" in sys.modules


os.register_at_fork(after_in_child=_after_fork)
