"""Case and accents of a tokenizer.json that is there already: what it does with them, changing that."""

import importlib
import json

from .english import combining_characters
from .settings import Json

_LOWERCASE: Json = {"type": "Lowercase"}
# Those of transformers' AlbertTokenizer.
_STRIP_ACCENTS: list[Json] = [{"type": "NFKD"}, {"type": "StripAccents"}]
_BARE = {"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}
# Character maps of SentencePiece come after case and accents.
_LAST = ("NFC", "Precompiled")


def behaviour(content: Json) -> tuple[bool, bool]:
    """Whether the tokenizer lower-cases, and whether it keeps accents."""
    bare = {**_BARE, "normalizer": content.get("normalizer")}  # a vocabulary takes long to read
    normalizer = importlib.import_module("tokenizers").Tokenizer.from_str(json.dumps(bare)).normalizer
    if normalizer is None:
        return False, True
    return "A" not in normalizer.normalize_str("A"), normalizer.normalize_str("\u00e9").strip() != "e"


def change(content: Json, lowercase: bool | None, keep_accents: bool | None) -> bool:
    """Make it lower-case or not and keep accents or not, None: as it does; whether it now does so.

    ``content`` is changed in place.
    """
    if _as_wanted(content, lowercase, keep_accents):
        return True
    normalizer = content.get("normalizer") or {}
    if normalizer.get("type") == "BertNormalizer":
        if lowercase is not None:
            normalizer["lowercase"] = lowercase
        if keep_accents is not None:
            normalizer["strip_accents"] = not keep_accents
    else:
        steps = _steps(normalizer)
        lowers, keeps = behaviour(content)
        if keep_accents is not None and keep_accents != keeps:
            steps = [step for step in steps if not _strips_accents(step)]
            if not keep_accents:
                steps = _before(steps, _STRIP_ACCENTS, ("Lowercase", *_LAST))
        if lowercase is not None and lowercase != lowers:
            steps = [step for step in steps if step != _LOWERCASE]
            if lowercase:
                steps = _before(steps, [_LOWERCASE], _LAST)
        content["normalizer"] = {"type": "Sequence", "normalizers": steps}
    return _as_wanted(content, lowercase, keep_accents)


def _as_wanted(content: Json, lowercase: bool | None, keep_accents: bool | None) -> bool:
    lowers, keeps = behaviour(content)
    return lowercase in (None, lowers) and keep_accents in (None, keeps)


def _steps(normalizer: Json) -> list[Json]:
    if not normalizer:
        return []
    if normalizer["type"] == "Sequence":
        return [step for part in normalizer["normalizers"] for step in _steps(part)]
    return [normalizer]


def _before(steps: list[Json], new: list[Json], kinds: tuple[str, ...]) -> list[Json]:
    """The steps with new ones before the first of these kinds."""
    at = next((index for index, step in enumerate(steps) if step["type"] in kinds), len(steps))
    return [*steps[:at], *new, *steps[at:]]


def _strips_accents(step: Json) -> bool:
    ours = step["type"] == "Replace" and step["pattern"] == {"Regex": combining_characters()}
    return ours or step["type"] in ("NFKD", "NFD", "StripAccents")
