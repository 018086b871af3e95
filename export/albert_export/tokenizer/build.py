"""A tokenizer.json (package ``tokenizers``) from the files that ALBERT checkpoints come with.

An existing tokenizer.json is used as it is. Else spiece.model gives the English tokenizer and vocab.txt the
Chinese one, as PaddleNLP's AlbertEnglishTokenizer and AlbertChineseTokenizer tokenize. Where an exact copy
is impossible, tests/export/tokenizer/test_parity.py lists the differences and their reasons.
"""

import base64
import functools
import importlib
import json
import sys
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from ..errors import ExportError
from .sentencepiece_model import SPACE, Kind, Piece, SentencePiece, read_spiece
from .settings import Json, Settings, added_token, model_vocabulary, read_bytes

TOKENIZER_NAME = "tokenizer.json"
SPIECE_NAME = "spiece.model"
VOCAB_NAME = "vocab.txt"

_PROBES = ("", "a", "A 1,000\u00e9 \u6211 \U0001f600", "\u0e33\u1112\u1161")
_ENGLISH = {
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_CHINESE = {**_ENGLISH, "pad_token": "[PAD]", "unk_token": "[UNK]"}
# What str.split() and str.strip() take for a space.
_PYTHON_SPACES = r"[\t-\r\x1c-\x20\x{85}\x{a0}\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+"
# A piece with this score never wins, unless it has a character that no other piece has: every detour is
# cheaper. The value is that of Hugging Face's converter.
_NEVER = -100.0


def tokenizer_json(folder: Path, *, lowercase: bool | None, vocab_size: int | None = None) -> bytes | None:
    """The tokenizer.json of a checkpoint folder, or None if it holds no tokenizer file.

    ``lowercase`` None: as the folder's tokenizer_config.json says, else the family's default (English folds
    case, Chinese keeps it). ``vocab_size``: of the model, by default the one in the folder's config.json.
    Raises ExportError, one line that names the file: it is not what its name says, lacks a special token, or
    has ids that the model does not.
    """
    settings = Settings.read(folder)
    limit = vocab_size if vocab_size is not None else model_vocabulary(folder)
    made, spiece, vocab = (folder / name for name in (TOKENIZER_NAME, SPIECE_NAME, VOCAB_NAME))
    if not spiece.is_file() and not vocab.is_file():
        spiece = _only(folder, "*.model") or spiece
        vocab = _only(folder, "vocab*.txt") or vocab
    if made.is_file() and (lowercase is None or not (spiece.is_file() or vocab.is_file())):
        if lowercase is not None:
            raise ExportError(
                f"{made} settles lower-casing itself and no {SPIECE_NAME} or {VOCAB_NAME} lies beside it; "
                "leave the option out"
            )
        data = read_bytes(made)
        _check(made, data, limit)
        return data
    if spiece.is_file():
        path, content = spiece, _english(spiece, settings, lowercase)
    elif vocab.is_file():
        path, content = vocab, _chinese(vocab, settings, lowercase)
    else:
        return None
    data = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    _check(path, data, limit)
    return data


def _only(folder: Path, pattern: str) -> Path | None:
    """Google's folders hold 30k-clean.model or vocab_chinese.txt; None unless there is just one such file."""
    found = [path for path in folder.glob(pattern) if path.is_file()]
    return found[0] if len(found) == 1 else None


# ---- English: SentencePiece


def _english(path: Path, settings: Settings, lowercase: bool | None) -> Json:
    model = read_spiece(path)
    ids = {piece.text: index for index, piece in enumerate(model.pieces)}
    if len(ids) != len(model.pieces):
        raise ExportError(f"{path} lists a piece twice; the file is damaged")
    specials = settings.specials(path, ids, _ENGLISH)
    if lowercase is None:
        lowercase = settings.flag("do_lower_case", default=True)
    metaspace = {
        "type": "Metaspace",
        "replacement": SPACE,
        "prepend_scheme": "always" if model.add_dummy_prefix else "never",
        # Word by word is faster, and the same unless a piece spans words.
        "split": not any(SPACE in piece.text.lstrip(SPACE) for piece in model.pieces),
    }
    return {
        **_frame(specials, ids, settings.added(path, ids), mask_lstrip=True),
        "normalizer": _sequence("normalizers", _english_normalizers(model, settings, lowercase)),
        "pre_tokenizer": metaspace,
        "decoder": metaspace,
        "model": {
            "type": "Unigram",
            "unk_id": model.unknown_id,
            "vocab": _scores(model.pieces),
            "byte_fallback": model.byte_fallback,
        },
    }


def _english_normalizers(model: SentencePiece, settings: Settings, lowercase: bool) -> list[Json]:
    """PaddleNLP's preprocess_text, then SentencePiece's own normalizer."""
    steps: list[Json] = []
    if settings.flag("remove_space", default=True):
        steps += [_replace({"Regex": _PYTHON_SPACES}, " "), _STRIP]
    steps += [_replace({"String": quotes}, '"') for quotes in ("``", "''")]
    if not settings.flag("keep_accents", default=False):
        # Not StripAccents: that one drops the vowel signs of Indic scripts too.
        steps += [{"type": "NFKD"}, _replace({"Regex": _combining_characters()}, "")]
    if lowercase:
        steps.append({"type": "Lowercase"})
    if model.composes:
        # The character map puts Hangul together again; Precompiled does not, it looks up single characters.
        steps.append({"type": "NFC"})
    if model.charsmap:
        charsmap = base64.b64encode(model.charsmap).decode()
        steps.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
    if model.remove_extra_whitespaces:
        steps += [_replace({"Regex": " {2,}"}, " "), _STRIP]
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
def _combining_characters() -> str:
    """A regular expression for the characters that unicodedata.combining() tells from others."""
    ranges: list[list[int]] = []
    for code in range(sys.maxunicode + 1):
        if unicodedata.combining(chr(code)):
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "[" + "".join(rf"\x{{{first:x}}}-\x{{{last:x}}}" for first, last in ranges) + "]+"


# ---- Chinese: WordPiece


def _chinese(path: Path, settings: Settings, lowercase: bool | None) -> Json:
    ids = _read_vocab(path)
    specials = settings.specials(path, ids, _CHINESE)
    if lowercase is None:
        lowercase = settings.chinese_lowercase()
    return {
        **_frame(specials, ids, settings.added(path, ids), mask_lstrip=False),
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": settings.flag("tokenize_chinese_chars", default=True),
            "strip_accents": None,  # with lower-casing
            "lowercase": lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": specials["unk_token"],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": ids,
        },
    }


def _read_vocab(path: Path) -> dict[str, int]:
    try:
        text = read_bytes(path).decode()
    except UnicodeDecodeError:
        raise ExportError(f"{path} is no vocabulary: it is not UTF-8 text") from None
    lines = text.replace("\r\n", "\n").split("\n")
    if not lines[-1]:
        lines.pop()
    if not lines:
        raise ExportError(f"{path} is empty; restore the vocabulary")
    # Of a token that stands there twice the last id counts, as in PaddleNLP.
    return {token: index for index, token in enumerate(lines)}


# ---- What both have in common


_STRIP: Json = {"type": "Strip", "strip_left": True, "strip_right": True}


def _frame(
    specials: Mapping[str, str], ids: Mapping[str, int], added: list[Json], *, mask_lstrip: bool
) -> Json:
    """The parts of a tokenizer.json around its model: special tokens, and [CLS] A [SEP] B [SEP].

    ``mask_lstrip``: the mask takes the space before it along.
    """
    tokens = {}
    for role, token in specials.items():
        lstrip = mask_lstrip and role == "mask_token"
        tokens[token] = added_token(ids[token], token, lstrip=lstrip, special=True)
    cls, sep = specials["cls_token"], specials["sep_token"]

    def part(kind: str, name: str, type_id: int) -> Json:
        return {kind: {"id": name, "type_id": type_id}}

    single = [part("SpecialToken", cls, 0), part("Sequence", "A", 0), part("SpecialToken", sep, 0)]
    pair = [*single, part("Sequence", "B", 1), part("SpecialToken", sep, 1)]
    named = {token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in (cls, sep)}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": sorted(tokens.values(), key=lambda token: int(token["id"])) + added,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": pair,
            "special_tokens": named,
        },
    }


def _replace(pattern: Json, content: str) -> Json:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _sequence(key: str, steps: list[Json]) -> Json | None:
    return {"type": "Sequence", key: steps} if steps else None


def _check(path: Path, data: bytes, vocab_size: int | None) -> None:
    """Let the library read the result and tokenize with it; every id must be one of the model's."""
    try:
        tokenizers = importlib.import_module("tokenizers")
    except ImportError:
        raise ExportError(
            "tokenizers is not installed, it makes the tokenizer; pip install 'albert-runtime[export]'"
        ) from None
    try:
        tokenizer = tokenizers.Tokenizer.from_str(data.decode())
        ids = {*tokenizer.get_vocab(with_added_tokens=True).values()}
        for probe in _PROBES:
            tokenizer.encode(probe, probe)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the library is no Exception
        raise ExportError(f"{path} is no tokenizer ({error}); restore it") from None
    if not ids:
        raise ExportError(f"{path} holds an empty vocabulary; restore it")
    if vocab_size is not None and max(ids) >= vocab_size:
        raise ExportError(
            f"{path} has token ids up to {max(ids)}, but the model's vocabulary has only {vocab_size}; "
            "it belongs to another model"
        )
