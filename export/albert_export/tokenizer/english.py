"""spiece.model to tokenizer.json: ALBERT's SentencePiece tokenizer, PaddleNLP's AlbertEnglishTokenizer.

Where an exact copy is impossible, tests/export/tokenizer/test_parity.py lists the differences and their
reasons.
"""

import base64
import functools
import sys
import unicodedata
from pathlib import Path

from ..errors import ExportError
from .choices import Choices
from .frame import Made, accents, case, frame, replace, sequence
from .sentencepiece_model import SPACE, Kind, Piece, SentencePiece, read_spiece
from .settings import Json, Settings
from .special_tokens import special_tokens

DEFAULTS = {
    "bos_token": "[CLS]",
    "eos_token": "[SEP]",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_REQUIRED = ("cls_token", "sep_token")
# The mask takes the space before it along.
_ATTRIBUTES = {"mask_token": {"lstrip": True}}
# What str.split() and str.strip() take for a space.
_PYTHON_SPACES = r"[\t-\r\x1c-\x20\x{85}\x{a0}\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+"
# A piece with this score never wins, unless it has a character that no other piece has: every detour is
# cheaper. The value is that of Hugging Face's converter.
_NEVER = -100.0
_STRIP: Json = {"type": "Strip", "strip_left": True, "strip_right": True}


def english(path: Path, settings: Settings, choices: Choices) -> Made:
    """The tokenizer.json of a spiece.model. Raises ExportError naming the file if it cannot be one."""
    model = read_spiece(path)
    vocabulary = {piece.text: index for index, piece in enumerate(model.pieces)}
    if len(vocabulary) != len(model.pieces):
        raise ExportError(f"{path} lists a piece twice; the file is damaged")
    tokens = special_tokens(settings, path, vocabulary, DEFAULTS, choices, _REQUIRED, _ATTRIBUTES)
    lowercase, keep_accents = choices.lowercase, choices.keep_accents
    if lowercase is None:
        lowercase = settings.flag("do_lower_case", default=True)
    if keep_accents is None:
        keep_accents = settings.flag("keep_accents", default=False)
    metaspace = {
        "type": "Metaspace",
        "replacement": SPACE,
        "prepend_scheme": "always" if model.add_dummy_prefix else "never",
        # Word by word is faster, and the same unless a piece spans words.
        "split": not any(SPACE in piece.text.lstrip(SPACE) for piece in model.pieces),
    }
    before: Json = metaspace
    if any(token["normalized"] for token in tokens.entries):
        # They are found in the text when it is normalized already: what is left between them keeps the spaces
        # at its ends, which would become pieces of their own.
        ends = {"Regex": r"^\s+|\s+$"}
        split = {"type": "Split", "pattern": ends, "behavior": "Removed", "invert": False}
        before = {"type": "Sequence", "pretokenizers": [split, metaspace]}
    fillers = [(text, _NEVER) for text in tokens.fillers]
    content = {
        **frame(tokens, settings),
        "normalizer": sequence("normalizers", _normalizers(model, settings, lowercase, keep_accents)),
        "pre_tokenizer": before,
        "decoder": metaspace,
        "model": {
            "type": "Unigram",
            "unk_id": model.unknown_id,
            "vocab": [*_scores(model.pieces), *fillers],
            "byte_fallback": model.byte_fallback,
        },
    }
    return Made(content, f"{case(lowercase)}, {accents(keep_accents)}", tokens.notes)


def _normalizers(model: SentencePiece, settings: Settings, lowercase: bool, keep_accents: bool) -> list[Json]:
    """PaddleNLP's preprocess_text, then SentencePiece's own normalizer."""
    steps: list[Json] = []
    if settings.flag("remove_space", default=True):
        steps += [replace({"Regex": _PYTHON_SPACES}, " "), _STRIP]
    steps += [replace({"String": quotes}, '"') for quotes in ("``", "''")]
    if not keep_accents:
        # Not StripAccents, as transformers' fast tokenizer has: that drops every vowel sign of Indic scripts.
        steps += [{"type": "NFKD"}, replace({"Regex": combining_characters()}, "")]
    if lowercase:
        steps.append({"type": "Lowercase"})
    if model.composes:
        # The character map puts Hangul together again; Precompiled does not, it looks up single characters.
        steps.append({"type": "NFC"})
    if model.charsmap:
        charsmap = base64.b64encode(model.charsmap).decode()
        steps.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
    if model.remove_extra_whitespaces:
        steps += [replace({"Regex": " {2,}"}, " "), _STRIP]
    return steps


def _scores(pieces: list[Piece]) -> list[tuple[str, float]]:
    """(text, score): what SentencePiece never produces from text gets a score that never wins.

    Pieces such as "000," are among it: PaddleNLP takes them apart after tokenizing, this keeps them from
    being chosen, which is how Hugging Face's converter renders the same rule.
    """
    best = max((piece.score for piece in pieces if piece.kind is Kind.NORMAL), default=0.0)

    def score(piece: Piece) -> float:
        text = piece.text
        match piece.kind:
            case Kind.USER_DEFINED:  # always to be found whole, SentencePiece's bonus for it
                return len(text.encode()) * best - 0.1
            case Kind.NORMAL if not (len(text) > 1 and text[-1] == "," and text[-2].isdigit()):
                return piece.score
        return _NEVER

    return [(piece.text, score(piece)) for piece in pieces]


@functools.cache
def combining_characters() -> str:
    """A regular expression for the characters that unicodedata.combining() tells from others."""
    ranges: list[list[int]] = []
    for code in range(sys.maxunicode + 1):
        if unicodedata.combining(chr(code)):
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "[" + "".join(rf"\x{{{first:x}}}-\x{{{last:x}}}" for first, last in ranges) + "]+"
