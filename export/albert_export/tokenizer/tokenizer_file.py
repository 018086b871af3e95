"""A tokenizer.json that lies in the folder: used as transformers' AutoTokenizer uses it.

AutoTokenizer reads tokenizer_config.json after it, and some of what that says wins.
"""

import importlib
import json
from pathlib import Path

from ..errors import ExportError
from .choices import Choices
from .frame import Made, accents, apply_settings, case
from .normalizer import behaviour, change
from .settings import ALBERT, CONFIG_NAME, Json, Settings
from .special_tokens import special_tokens

# Option of BertTokenizer -> (what the normalizer calls it, the class's default).
_BERT_OPTIONS: dict[str, tuple[str, bool | None]] = {
    "do_lower_case": ("lowercase", True),
    "strip_accents": ("strip_accents", None),
    "tokenize_chinese_chars": ("handle_chinese_chars", True),
}


def decoded(data: bytes) -> Json:
    """The object in a file that the library ``tokenizers`` can read."""
    content: Json = json.loads(data)
    return content


def adapted(path: Path, content: Json, settings: Settings, choices: Choices) -> Made:
    """The file with what tokenizer_config.json changes in it; ``content`` None if that is nothing.

    Raises ExportError if the JSON files beside it contradict its ids.
    """
    notes: list[str] = []
    changed = _bert_options(content, settings, notes) if settings.is_bert else False
    changed |= _added_tokens(path, content, settings, choices, notes)
    changed |= apply_settings(content, settings)
    changed |= _choose(path, content, settings, choices, notes)
    if changed and choices.lowercase is None and choices.keep_accents is None:
        notes.insert(0, f"{path.name} is changed as {CONFIG_NAME} says, as by transformers' AutoTokenizer")
    lowercase, keeps = behaviour(content)
    return Made(content if changed else None, f"{case(lowercase)}, {accents(keeps)}", notes)


def _bert_options(content: Json, settings: Settings, notes: list[str]) -> bool:
    """BertTokenizerFast's rule: its options win over the normalizer's, also those that no file sets."""
    normalizer = content.get("normalizer") or {}
    if normalizer.get("type") != "BertNormalizer":
        return False
    changed = False
    for option, (name, default) in _BERT_OPTIONS.items():
        value = settings.option(option)
        value = default if value is None else value
        if normalizer.get(name) != value:
            where = "default of the class" if settings.values.get(option) is None else f"in {CONFIG_NAME}"
            notes.append(
                f"{option} is {json.dumps(value)} ({where}), tokenizer.json says otherwise: the former"
            )
            normalizer[name] = value
            changed = True
    return changed


def _added_tokens(path: Path, content: Json, settings: Settings, choices: Choices, notes: list[str]) -> bool:
    """Tokens that only the other files know go behind the file's own."""
    tokenizer = importlib.import_module("tokenizers").Tokenizer.from_str(json.dumps(content))
    ids = tokenizer.get_vocab(with_added_tokens=True)
    found = special_tokens(settings, path, ids, {}, choices)
    new = [entry for entry in found.entries if entry["content"] not in ids]
    if not new:
        return False
    if found.unused:
        raise ExportError(
            f"{path} lacks {new[0]['content']!r:.40}, which the files beside it give the id {new[0]['id']}: "
            f"that does not follow its own {len(ids)}; save the tokenizer again"
        )
    notes += found.notes
    content["added_tokens"] = [*content.get("added_tokens", ()), *new]
    return True


def _choose(path: Path, content: Json, settings: Settings, choices: Choices, notes: list[str]) -> bool:
    """The user's choice of case and accents, else that of the transformers that can read the folder."""
    lowercase, keep_accents = choices.lowercase, choices.keep_accents
    expected = _by_version_5(content, settings)
    if expected is not None and expected != behaviour(content) and (lowercase, keep_accents) == (None, None):
        if settings.by_transformers_5:
            lowercase, keep_accents = expected
        else:
            notes.append(
                f"transformers 4 follows {path.name}, as this does, and {_words(behaviour(content))}; "
                f"transformers 5 follows {CONFIG_NAME} and the class's defaults, and {_words(expected)}"
            )
    before = json.dumps(content)
    if not change(content, lowercase, keep_accents):
        raise ExportError(
            f"{path} settles case and accents in a way of its own and no vocabulary lies beside it; leave "
            "the option out"
        )
    return json.dumps(content) != before


def _by_version_5(content: Json, settings: Settings) -> tuple[bool, bool] | None:
    """Whether transformers 5 lower-cases and keeps accents, None for as the file says.

    It makes the normalizer of its own classes anew, from tokenizer_config.json.
    """
    kind = content["model"].get("type")
    lowercase = settings.flag("do_lower_case", default=True)
    if settings.is_bert and kind == "WordPiece":
        strip = settings.option("strip_accents")
        return lowercase, not (lowercase if strip is None else strip)
    if (settings.class_name is None or settings.class_name in ALBERT) and kind == "Unigram":
        return lowercase, settings.flag("keep_accents", default=False)
    return None


def _words(rule: tuple[bool, bool]) -> str:
    return f"{case(rule[0])} and {accents(rule[1])}"
