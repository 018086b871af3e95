"""The pad id that a checkpoint's tokenizer pads with, which its config.json need not know."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# Of files that name a token; the first that names one of the vocabulary counts.
_FILES = ("tokenizer_config.json", "special_tokens_map.json")
_USUAL = ("<pad>", "[PAD]")
_MAX_BYTES = 1 << 24


def tokenizer_pad_id(tokenizer_json: bytes, folders: Iterable[Path]) -> int | None:
    """The id of the token that the tokenizer pads with; None if it has none.

    Args:
        tokenizer_json: The tokenizer, as made or copied for the artifact.
        folders: Where tokenizer_config.json or special_tokens_map.json may name its pad token. A name that
            the vocabulary lacks gives way to the usual ones.
    """
    tokenizer = json.loads(tokenizer_json)
    named = [_content(_read(folder / name).get("pad_token")) for folder in folders for name in _FILES]
    padding = tokenizer.get("padding")
    if isinstance(padding, dict):
        named.append(_content(padding.get("pad_token")))
    ids = _ids(tokenizer)
    return next((ids[token] for token in (*named, *_USUAL) if token in ids), None)


def _ids(tokenizer: Mapping[str, Any]) -> dict[object, int]:
    """Token -> id: of Unigram's list of pieces and scores, of any other model's object, of added tokens."""
    model = tokenizer.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    ids: dict[object, int] = {}
    if isinstance(vocabulary, dict):
        ids = {token: number for token, number in vocabulary.items() if type(number) is int}
    elif isinstance(vocabulary, list):
        ids = {
            entry[0]: number
            for number, entry in enumerate(vocabulary)
            if isinstance(entry, list) and entry and isinstance(entry[0], str)
        }
    added = tokenizer.get("added_tokens")
    for token in added if isinstance(added, list) else []:
        match token:
            case {"content": str(content), "id": int(number)}:
                ids[content] = number
    return ids


def _content(token: object) -> str | None:
    """A token as these files write it: its text, or an object that has it."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _read(path: Path) -> Mapping[str, Any]:
    """A JSON object, empty if there is none: whoever makes the tokenizer has refused damaged files."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            return {}
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
