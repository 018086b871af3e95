"""do_lower_case of a sentence-transformers folder: lower-casing before all else a tokenizer.json does."""

import json

from .settings import Json

_LOWERCASE: Json = {"type": "Lowercase"}


def lowercased(tokenizer: bytes) -> bytes:
    """The tokenizer.json with Lowercase as its first normalizer, unless one of its normalizers is one.

    That is sentence-transformers' rule: a BertNormalizer that lower-cases does not count.
    """
    content = json.loads(tokenizer)
    before = content.get("normalizer")
    steps = [] if before is None else [before]
    if before is not None and before["type"] == "Sequence":
        steps = before["normalizers"]
    if _LOWERCASE in steps:
        return tokenizer
    content["normalizer"] = {"type": "Sequence", "normalizers": [_LOWERCASE, *steps]}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
