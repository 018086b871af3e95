"""What lies beside a vocabulary: options, names of the special tokens, tokens added behind it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ExportError

Json = dict[str, Any]

_MAX_BYTES = 64 << 20
_ADDED_KEYS = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True)
class Settings:
    """tokenizer_config.json, special_tokens_map.json and added_tokens.json, whichever are there."""

    folder: Path
    values: Mapping[str, Any]
    extra: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> "Settings":
        config = _read_object(folder / "tokenizer_config.json")
        special = _read_object(folder / "special_tokens_map.json")
        return cls(folder, {**special, **config}, _read_object(folder / "added_tokens.json"))

    def flag(self, name: str, *, default: bool) -> bool:
        """An option of the tokenizer's class."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise ExportError(f"{self.folder / 'tokenizer_config.json'}: {name} is neither true nor false")
        return value

    def chinese_lowercase(self) -> bool:
        """PaddleNLP's published Chinese models keep case; a plain BertTokenizer's own default is to fold."""
        bert = str(self.values.get("tokenizer_class")).startswith("BertTokenizer")
        return self.flag("do_lower_case", default=bert)

    def specials(self, path: Path, ids: Mapping[str, int], defaults: Mapping[str, str]) -> dict[str, str]:
        """Role -> token, each one in the vocabulary.

        A configured token that the vocabulary lacks gives way to the family's: PaddleNLP's AlbertTokenizer
        writes <pad> and <unk> beside Chinese vocabularies as well.
        """
        found, missing = {}, []
        for role, default in defaults.items():
            token = next((name for name in (_content(self.values.get(role)), default) if name in ids), None)
            if token is None:
                missing.append(default)
            else:
                found[role] = token
        if missing:
            raise ExportError(f"{path} lacks the special tokens {', '.join(missing)}; it is not an ALBERT's")
        return found

    def added(self, path: Path, ids: Mapping[str, int]) -> list[Json]:
        """Tokens that were added behind the vocabulary, by id."""
        found: dict[int, Json] = {}
        try:
            named = {_content(token) for token in self.values.get("additional_special_tokens") or ()}
            for token, index in self.extra.items():
                special = token in named
                found[int(index)] = {"content": token, "special": special, "normalized": not special}
            for index, entry in (self.values.get("added_tokens_decoder") or {}).items():
                found[int(index)] = dict(entry)
            tokens = [
                added_token(index, **{key: entry[key] for key in _ADDED_KEYS if key in entry})
                for index, entry in sorted(found.items())
                if entry["content"] not in ids
            ]
        except (ValueError, TypeError, AttributeError, KeyError):
            raise ExportError(f"{self.folder}: the added tokens in its JSON files are malformed") from None
        start = max(ids.values()) + 1
        if [token["id"] for token in tokens] != list(range(start, start + len(tokens))):
            raise ExportError(
                f"{self.folder}: its added tokens do not follow the {start} of {path.name}; "
                "put a tokenizer.json there"
            )
        return tokens


def added_token(
    index: int,
    content: str,
    *,
    single_word: bool = False,
    lstrip: bool = False,
    rstrip: bool = False,
    normalized: bool = False,
    special: bool = False,
) -> Json:
    """An entry of tokenizer.json's added_tokens; special tokens are among them."""
    return {
        "id": index,
        "content": content,
        "single_word": single_word,
        "lstrip": lstrip,
        "rstrip": rstrip,
        "normalized": normalized,
        "special": special,
    }


def model_vocabulary(folder: Path) -> int | None:
    """vocab_size of the folder's config, in either of its forms; None if it does not say."""
    for name in ("config.json", "model_config.json"):
        values = _read_object(folder / name)
        arguments = values.get("init_args")
        if isinstance(arguments, list) and arguments and isinstance(arguments[0], dict):
            values = arguments[0]
        size = values.get("vocab_size")
        if isinstance(size, int):
            return size
    return None


def read_bytes(path: Path) -> bytes:
    """The whole file; ExportError if that would be absurd."""
    if path.stat().st_size > _MAX_BYTES:
        raise ExportError(f"{path} is far larger than a tokenizer file can be")
    return path.read_bytes()


def _read_object(path: Path) -> Mapping[str, Any]:
    """A JSON object, {} if there is no such file."""
    if not path.is_file():
        return {}
    try:
        values = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{path} is not readable as JSON ({error})") from None
    if not isinstance(values, dict):
        raise ExportError(f"{path} holds no JSON object")
    return values


def _content(token: object) -> str | None:
    """The text of a token, which Hugging Face also writes as an object."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None
