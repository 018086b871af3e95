"""Cuts long texts where that changes no token, so that no more of a text is tokenized than matters.

Tokenizers normalize a text, take it apart at spaces and tokenize word by word. If no step looks across a
space between two letters, a text that is cut before one has the tokens of its pieces, one after another.
Where that is not known of every step of a tokenizer, its texts are not cut.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import InputError
from .encode_batch import encode_batch

SHORT = 4096  # characters: shorter texts are tokenized at once
_MAX_PIECE = 2**20  # characters: half a second and 150 MB
_MAX_COMPARED = 2**16  # tokens of the texts of a pair

# Steps that look at one character, or at letters and the marks on them, and never across a space.
_LOCAL_NORMALIZERS = (
    *("NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled"),
    *("Lowercase", "StripAccents", "BertNormalizer", "Strip"),
)
# Regular expressions that are local: of spaces, or of one class of characters.
_LOCAL_REGEX = re.compile(r"\\s\+|\\s\{2,\}| \{2,\}|\[[^\[\]]+\]\+?", re.DOTALL)
_SPLIT_AT_SPACES = ("WhitespaceSplit", "Whitespace", "BertPreTokenizer")
_ENDS = r"^\s+|\s+$"
# A letter or digit. U+0D4E and some of the higher planes join the character after them to one grapheme.
_BEFORE, _AFTER = r"(?<=[^\W_\u0d4e\U00010000-\U0010ffff])", r"[^\W_]"
_HAN = r"(?<=[\u4e00-\u9fff])(?=[\u4e00-\u9fff])"
# What every place to cut at must be: (before, after), with "{}" for a space.
_SAMPLES = (("ab", "{}cd"), ("anna smith", "{}lives in"), ("7", "{}8"), ("да", "{}{}нет"), ("中", "{}文"))


class Cutter:
    """Measures and cuts the texts of one tokenizer.

    Args:
        tokenizer: The tokenizer, without truncation.
        from_end: Whether texts keep their last tokens, not their first, when they are truncated.
    """

    def __init__(self, tokenizer: Any, *, from_end: bool = False) -> None:
        self._tokenizer, self._from_end = tokenizer, from_end
        self._places = _places(tokenizer)

    def count(self, text: str, at_most: int) -> int:
        """The text's tokens, special ones not counted; at least ``at_most`` if it has as many.

        InputError if a piece is too long to be tokenized.
        """
        return self._kept(text, at_most)[2]

    def cut(self, parts: Sequence[str], tokens: int) -> list[tuple[int, int]]:
        """(start, stop) of what can matter of a text, or of both texts of a pair, cut to ``tokens`` tokens.

        Where both texts of a pair have so many, the one with more tokens may keep one more: it stays the
        longer one. (The library makes a row of every two stretches of both, so they have to be short.)

        InputError if a piece is too long to be tokenized.
        """
        if len(parts) == 1:
            kept = [self._kept(parts[0], tokens)]
        elif self._is_first_longer(parts[0], parts[1], tokens):
            second = self._kept(parts[1], tokens)
            kept = [self._kept(parts[0], max(tokens, second[2] + 1)), second]
        else:
            first = self._kept(parts[0], tokens)
            kept = [first, self._kept(parts[1], max(tokens, first[2]))]
        return [(start, stop) for start, stop, _ in kept]

    def _is_first_longer(self, first: str, second: str, tokens: int) -> bool:
        """Whether the first text has more tokens; both are measured until the shorter one ends.

        If both have more than ``_MAX_COMPARED``, the second counts as the longer one, however many they have.
        """
        while tokens <= _MAX_COMPARED:
            (start, stop, count), (other_start, other_stop, other) = (
                self._kept(text, tokens) for text in (first, second)
            )
            if stop - start == len(first) and (other >= count or other_stop - other_start == len(second)):
                return count > other
            if other_stop - other_start == len(second) and count > other:
                return True
            tokens = 2 * max(tokens, count, other)
        return False

    def _kept(self, text: str, tokens: int) -> tuple[int, int, int]:
        """(start, stop, tokens) of the stretch that has ``tokens`` tokens, or of the whole text."""
        pieces = self._pieces(text)
        count = start = stop = 0
        for start, stop in reversed(list(pieces)) if self._from_end else pieces:
            count += self._count(text[start:stop])
            if count >= tokens:
                break
        return (start, len(text), count) if self._from_end else (0, stop, count)

    def _count(self, piece: str) -> int:
        if len(piece) > _MAX_PIECE:
            raise InputError(
                f"has {len(piece)} characters in a row without a place to cut them, such as a space between "
                f"two words; {_MAX_PIECE} can be tokenized at once: shorten it"
            )
        (encoding,) = encode_batch(self._tokenizer, [piece], offsets=False, add_special_tokens=False)
        return len(encoding.ids)

    def _pieces(self, text: str) -> Iterator[tuple[int, int]]:
        start = 0
        while self._places is not None and len(text) - start > SHORT:
            found = self._places.search(text, start + SHORT, start + SHORT + _MAX_PIECE)
            if found is None:
                break
            yield start, found.start()
            start = found.start()
        yield start, len(text)


def _places(tokenizer: Any) -> "re.Pattern[str] | None":
    """Matches, with no width, the places at which texts can be cut; None if there may be none."""
    normalizers = _steps(tokenizer.normalizer, "normalizers")
    splitter = _splitter(_steps(tokenizer.pre_tokenizer, "pretokenizers"))
    added = tokenizer.get_added_tokens_decoder().values()
    if splitter is None or not all(map(_is_local, normalizers)) or not all(map(_stands_alone, added)):
        return None
    spaces = [
        space
        for space in " \t\n\r"
        if space == " " or splitter in _SPLIT_AT_SPACES or _normalizes_to_space(tokenizer, space)
    ]
    if not all(_adds_up(tokenizer, space, sample) for space in spaces for sample in _SAMPLES):
        return None
    places = f"{_BEFORE}(?=[{''.join(spaces)}]+{_AFTER})"
    if any(step["type"] == "BertNormalizer" and step["handle_chinese_chars"] for step in normalizers):
        places += f"|{_HAN}"  # it puts spaces around them
    return re.compile(places)


def _steps(component: Any, key: str) -> list[dict[str, Any]]:
    if component is None:
        return []

    def flatten(state: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if state["type"] == "Sequence":
            for part in state[key]:
                yield from flatten(part)
        else:
            yield state

    return list(flatten(json.loads(component.__getstate__())))


def _is_local(normalizer: dict[str, Any]) -> bool:
    if normalizer["type"] != "Replace":
        return normalizer["type"] in _LOCAL_NORMALIZERS
    pattern = normalizer["pattern"]
    if "String" in pattern:
        return not any(letter.isalnum() or letter.isspace() for letter in pattern["String"])
    return _LOCAL_REGEX.fullmatch(pattern["Regex"]) is not None


def _splitter(steps: Sequence[dict[str, Any]]) -> str | None:
    """The first pre-tokenizer that splits at every space; None if one before it may not be local."""
    for step in steps:
        kind = step["type"]
        if (
            kind in _SPLIT_AT_SPACES
            or (kind == "Metaspace" and step.get("split", True))
            or (kind == "ByteLevel" and step.get("use_regex", True))
        ):
            return str(kind)
        if not (kind in ("Digits", "Punctuation") or step.get("pattern") == {"Regex": _ENDS}):
            return None
    return None


def _stands_alone(token: Any) -> bool:
    """Whether an added token is found all the same if a text is cut before a space between two letters."""
    text = token.content
    takes_spaces = (token.lstrip and text[:1].isalnum()) or (token.rstrip and text[-1:].isalnum())
    return not takes_spaces and not any(map(str.isspace, text))


def _normalizes_to_space(tokenizer: Any, space: str) -> bool:
    normalizer = tokenizer.normalizer
    return normalizer is not None and normalizer.normalize_str(f"a{space}b") == normalizer.normalize_str(
        "a b"
    )


def _adds_up(tokenizer: Any, space: str, sample: tuple[str, str]) -> bool:
    """Whether a sample has the tokens of its parts: not so if each text gets a prefix, for example."""
    first, second = (part.replace("{}", space) for part in sample)
    whole, *parts = (
        tokenizer.encode(text, add_special_tokens=False).tokens for text in (first + second, first, second)
    )
    return bool(whole == parts[0] + parts[1])
