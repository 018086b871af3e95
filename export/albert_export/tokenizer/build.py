"""A tokenizer.json (package ``tokenizers``) from the files that ALBERT checkpoints come with.

An existing tokenizer.json is used as transformers uses it. Else spiece.model gives the English tokenizer and
vocab.txt the Chinese one.
"""

import importlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ExportError
from .chinese import chinese
from .choices import Choices
from .english import english
from .frame import Made
from .settings import ALBERT, BERT, CONFIG_NAME, Settings, model_vocabulary, read_bytes
from .special_tokens import too_many_ids
from .tokenizer_file import adapted, decoded

TOKENIZER_NAME = "tokenizer.json"
SPIECE_NAME = "spiece.model"
SPIECE_SUFFIX = ".model"
VOCAB_NAME = "vocab.txt"

_PROBES = ("", "a", "A 1,000\u00e9 \u6211 \U0001f600", "\u0e33\u1112\u1161")
# Read by transformers' slow tokenizers only, with the values that change nothing.
_SLOW_ONLY = {"do_basic_tokenize": (None, True), "never_split": (None, [])}


@dataclass(frozen=True)
class MadeTokenizer:
    """A checkpoint's tokenizer.

    ``json``: the bytes of tokenizer.json. ``origin``: its file and rule, in one line. ``notes``: what the
    user should know, a line each. ``max_length``: tokens of a row that the checkpoint's own tokenizer cuts
    to, None if no file says.
    """

    json: bytes
    origin: str
    notes: tuple[str, ...] = ()
    max_length: int | None = None


def make_tokenizer(folder: Path, choices: Choices) -> MadeTokenizer | None:
    """The tokenizer of a checkpoint folder, or None if it holds no tokenizer file.

    Without ``choices.vocab_size`` that of the folder's config.json counts. Raises ExportError, one line that
    names the file: it is not what its name says, lacks a special token, has ids that the model does not, or
    says what cannot be kept.
    """
    if choices.vocab_size is None:
        choices = replace(choices, vocab_size=model_vocabulary(folder))
    settings = Settings.read(folder)
    path = _vocabulary(folder, settings)
    whole = folder / TOKENIZER_NAME
    if whole.is_file() and (path is None or (choices.lowercase is None and choices.keep_accents is None)):
        path, data = whole, read_bytes(whole)
        settings.check_supported()
        _check(path, data, None)
        made = adapted(path, decoded(data), settings, choices)
        if made.content is not None:
            data = _dump(made.content)
    elif path is None:
        return None
    else:
        settings.check_supported()
        _check_class(path, settings)
        one = english if path.suffix == SPIECE_SUFFIX else chinese
        made = one(path, settings, choices)
        data = _dump(made.content)
    _check(path, data, choices.vocab_size, made)
    notes = [*made.notes, *_slow_only(settings)]
    if not settings.has_token_types():
        why = f"model_input_names in {CONFIG_NAME} leaves them out"
        if settings.values.get("model_input_names") is None:
            why = f"transformers 5 wrote the folder, and its {settings.class_name} has no token types"
        notes.append(f"both texts of a pair have token type 0: {why}")
    return MadeTokenizer(data, f"{path.name}, {made.rule}", tuple(notes), settings.max_length())


def _vocabulary(folder: Path, settings: Settings) -> Path | None:
    """The vocabulary that a tokenizer can be made from; where there are two, the class decides."""
    names = (VOCAB_NAME, SPIECE_NAME) if settings.is_bert else (SPIECE_NAME, VOCAB_NAME)
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    return path or _only(folder, f"*{SPIECE_SUFFIX}") or _only(folder, "vocab*.txt")


def _only(folder: Path, pattern: str) -> Path | None:
    """Google's folders hold 30k-clean.model or vocab_chinese.txt; None unless there is just one such file."""
    found = [path for path in folder.glob(pattern) if path.is_file()]
    return found[0] if len(found) == 1 else None


def _check_class(path: Path, settings: Settings) -> None:
    """Refuse a class that reads this file in another way."""
    known = ALBERT if path.suffix == SPIECE_SUFFIX else (*BERT, *ALBERT)
    if settings.class_name is not None and settings.class_name not in known:
        raise ExportError(
            f"{settings.folder / str(settings.class_file)} names the tokenizer class {settings.class_name}, "
            f"which does not make its tokens from {path.name} as ALBERT's do; put its tokenizer.json there "
            "(AutoTokenizer.from_pretrained(...).save_pretrained(...))"
        )


def _slow_only(settings: Settings) -> list[str]:
    return [
        f"{name} in {CONFIG_NAME} has no effect, as in transformers' AutoTokenizer: only BertTokenizer's "
        "slow form reads it"
        for name, neutral in _SLOW_ONLY.items()
        if settings.values.get(name) not in neutral
    ]


def _dump(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def _check(path: Path, data: bytes, vocab_size: int | None, made: Made | None = None) -> None:
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
        raise too_many_ids(path, max(ids), vocab_size)
    for entry in made.content["added_tokens"] if made is not None and made.content else ():
        if tokenizer.token_to_id(entry["content"]) != entry["id"]:
            raise ExportError(
                f"{path}: the added token {entry['content']!r:.40} cannot have the id {entry['id']}"
            )
