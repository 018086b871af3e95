"""The tokens that stand beside a vocabulary's own: [CLS] and the like, and those that a user has added.

Their ids are transformers': those that the folder's JSON files give, else the vocabulary's, else the next
ones behind it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard

from ..errors import ExportError
from .choices import Choices
from .settings import Json, Settings

# In the order in which transformers gives ids to those that the vocabulary lacks.
_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_ATTRIBUTES = ("single_word", "lstrip", "rstrip", "normalized", "special")
# Of a model whose vocabulary is unknown.
_MOST_IDS = 1 << 22
_SURROGATE = re.compile("[\ud800-\udfff]")
_NONE: Mapping[str, Mapping[str, bool]] = {}


@dataclass
class SpecialTokens:
    """``roles``: role -> token. ``entries``: tokenizer.json's added_tokens, by id. ``notes``: for the user.

    ``unused``: ids between the vocabulary and the last added token that belong to no token.
    """

    ids: dict[str, int]
    roles: dict[str, str] = field(default_factory=dict)
    entries: list[Json] = field(default_factory=list)
    unused: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def fillers(self) -> list[str]:
        """A piece for each unused id. No text gives it: a piece never holds a space."""
        return [f" unused {index}" for index in self.unused]


def special_tokens(
    settings: Settings,
    path: Path,
    vocabulary: Mapping[str, int],
    defaults: Mapping[str, str],
    choices: Choices,
    required: Iterable[str] = (),
    attributes: Mapping[str, Mapping[str, bool]] = _NONE,
) -> SpecialTokens:
    """The special and added tokens of a folder.

    A token that is named but has no id gets the next one, if the model has it, in a folder of Hugging Face's:
    so does transformers. PaddleNLP's AlbertTokenizer names <pad> and <unk> beside Chinese vocabularies too;
    there the class's own token takes its place.

    Args:
        settings: The folder's JSON files.
        path: The vocabulary's file, for errors.
        vocabulary: Its tokens.
        defaults: The tokens of the tokenizer's class, by role.
        choices: What the caller knows of the model.
        required: Roles without which there is no tokenizer.
        attributes: Of the tokens of some roles, where no file gives them.

    Raises:
        ExportError: A required token is missing, or a file contradicts the vocabulary.
    """
    limit = choices.vocab_size
    required = [*required, *(["mask_token"] if choices.needs_mask and defaults else [])]
    given = _given(settings, defaults)
    _check_ids(settings, path, vocabulary, given, limit)
    ids = {**vocabulary, **{token: index for index, (token, _) in given.items()}}
    made = SpecialTokens(ids)
    known_attributes = {token: dict(entry) for token, entry in given.values()}
    tokens: dict[str, Json] = {}

    def place(token: str) -> bool:
        """Whether the token has an id, now or before."""
        # With ids left out, or two for one token, transformers' versions count differently.
        following = max(ids.values(), default=-1) + 1
        if token not in ids and choices.hugging_face and limit is not None and following == len(ids) < limit:
            ids[token] = following
            made.notes.append(f"{path.name} lacks {token}: it has id {following}, as in transformers")
        return token in ids

    for role in _ROLES:
        configured, entry = _token(settings.values.get(role))
        candidates = [token for token in (configured, defaults.get(role)) if token is not None]
        token = next(filter(place, candidates), None)
        if token is None:
            continue
        made.roles[role] = token
        chosen = attributes.get(role, {})
        if token == configured:
            chosen = {**chosen, **entry}
        tokens[token] = {**chosen, **known_attributes.pop(token, {}), "special": True}
    missing = [defaults[role] for role in required if role not in made.roles]
    if missing:
        raise ExportError(f"{path} lacks the special tokens {', '.join(missing)}; it is not an ALBERT's")
    for token, entry in _named(settings):
        if token in tokens:
            continue
        if place(token):
            tokens[token] = {**entry, **known_attributes.pop(token, {}), "special": True}
        else:
            made.notes.append(f"{token} is named as a special token but has no id; it is read as text")
    tokens.update(known_attributes)
    made.entries = sorted(
        (_entry(ids[token], token, entry) for token, entry in tokens.items()), key=lambda entry: entry["id"]
    )
    last = max((entry["id"] for entry in made.entries), default=-1)
    if last > max(vocabulary.values(), default=-1):
        made.unused = sorted({*range(last)} - {*ids.values()})
    return made


def _given(settings: Settings, defaults: Mapping[str, str]) -> dict[int, tuple[str, Json]]:
    """id -> (token, attributes), from added_tokens_decoder and added_tokens.json."""
    try:
        special = {*defaults.values(), *(token for token, _ in _named(settings))}
        special |= {token for role in _ROLES if (token := _token(settings.values.get(role))[0])}
        found: list[tuple[object, str, Json]] = []
        for token, index in settings.extra.items():
            entry = {"special": token in special, "normalized": token not in special}
            found.append((index, token, entry))
        for index, entry in (settings.values.get("added_tokens_decoder") or {}).items():
            # AddedToken's own default.
            normalized = bool(entry.get("normalized", not entry.get("special", False)))
            found.append((int(index), entry["content"], {**_attributes(entry), "normalized": normalized}))
        given = {index: (token, entry) for index, token, entry in found if _is_token(token) and _is_id(index)}
        if len(given) != len(found) or len({token for token, _ in given.values()}) != len(found):
            raise ValueError
    except (ValueError, TypeError, AttributeError, KeyError):
        raise ExportError(f"{settings.folder}: the added tokens in its JSON files are malformed") from None
    return given


def _is_id(index: object) -> TypeGuard[int]:
    return isinstance(index, int) and not isinstance(index, bool) and index >= 0


def _is_token(token: object) -> TypeGuard[str]:
    """Whether it is a text that can be written: JSON can also hold half a character."""
    return isinstance(token, str) and token != "" and not _SURROGATE.search(token)


def _check_ids(
    settings: Settings,
    path: Path,
    vocabulary: Mapping[str, int],
    given: Mapping[int, tuple[str, Json]],
    limit: int | None,
) -> None:
    last = max(vocabulary.values(), default=-1)
    for index, (token, _) in given.items():
        own = vocabulary.get(token)
        if own != index and (own is not None or index <= last):
            there = "is another token's" if own is None else f"is not the {own} of {path.name}"
            raise ExportError(
                f"{settings.folder}: its JSON files give {token!r:.40} the id {index}, which {there}; "
                "put a tokenizer.json there"
            )
    if given and max(given) >= (_MOST_IDS if limit is None else limit):
        raise too_many_ids(path, max(given), _MOST_IDS if limit is None else limit)


def too_many_ids(path: Path, last: int, vocab_size: int) -> ExportError:
    """The error of a tokenizer whose ids the model does not have."""
    return ExportError(
        f"{path} has token ids up to {last}, but the model's vocabulary has only {vocab_size}; "
        "it belongs to another model"
    )


def _named(settings: Settings) -> list[tuple[str, Json]]:
    """Special tokens without a role: (token, attributes)."""
    found = []
    for name in ("additional_special_tokens", "extra_special_tokens"):
        tokens = settings.values.get(name) or ()
        if isinstance(tokens, str):
            raise TypeError
        for value in tokens.values() if isinstance(tokens, dict) else tokens:
            token, entry = _token(value)
            if token is None:
                raise ValueError
            found.append((token, entry))
    return found


def _token(value: object) -> tuple[str | None, Json]:
    """The text of a token, which transformers also writes as an object, and the attributes that this has."""
    if isinstance(value, dict):
        content = value.get("content")
        return (content if _is_token(content) else None), _attributes(value)
    return (value if _is_token(value) else None), {}


def _attributes(entry: Mapping[str, object]) -> Json:
    return {name: bool(entry[name]) for name in _ATTRIBUTES if name in entry}


def _entry(index: int, content: str, attributes: Mapping[str, bool]) -> Json:
    """An entry of tokenizer.json's added_tokens."""
    return {"id": index, "content": content, **{name: attributes.get(name, False) for name in _ATTRIBUTES}}
