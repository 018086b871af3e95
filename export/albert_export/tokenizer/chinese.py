"""vocab.txt to tokenizer.json: WordPiece, as in BertTokenizer and PaddleNLP's AlbertChineseTokenizer."""

from pathlib import Path

from ..errors import ExportError
from .choices import Choices
from .frame import Made, accents, case, frame
from .settings import CONFIG_NAME, Settings, read_bytes
from .special_tokens import special_tokens

DEFAULTS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_REQUIRED = ("unk_token", "cls_token", "sep_token")


def chinese(path: Path, settings: Settings, choices: Choices) -> Made:
    """The tokenizer.json of a vocab.txt. Raises ExportError naming the file if it cannot be one."""
    vocabulary = _read_vocab(path)
    tokens = special_tokens(settings, path, vocabulary, DEFAULTS, choices, _REQUIRED)
    unknown = next(
        (name for name in (tokens.roles["unk_token"], DEFAULTS["unk_token"]) if name in vocabulary), None
    )
    if unknown is None:
        raise ExportError(f"{path} lacks the special tokens {DEFAULTS['unk_token']}; it is not an ALBERT's")
    lowercase, why = choices.lowercase, "as the option says"
    if lowercase is None:
        lowercase, why = _folds_case(settings, choices)
    strip_accents = settings.option("strip_accents")  # None: with lower-casing
    if choices.keep_accents is not None:
        strip_accents = not choices.keep_accents
    content = {
        **frame(tokens, settings),
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": settings.flag("tokenize_chinese_chars", default=True),
            "strip_accents": strip_accents,
            "lowercase": lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": unknown,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {**vocabulary, **dict(zip(tokens.fillers, tokens.unused, strict=True))},
        },
    }
    keeps = not (lowercase if strip_accents is None else strip_accents)
    return Made(content, f"{case(lowercase)} ({why}), {accents(keeps)}", tokens.notes)


def _folds_case(settings: Settings, choices: Choices) -> tuple[bool, str]:
    """Whether texts are lower-cased, and by which rule.

    PaddleNLP's published Chinese models keep case; BertTokenizer, which transformers' users take, folds it.
    """
    stated = settings.option("do_lower_case")
    if stated is not None:
        return stated, f"do_lower_case in {CONFIG_NAME}"
    if settings.class_name is not None:
        return settings.is_bert, f"the rule of {settings.class_name}, named in {settings.class_file}"
    if choices.hugging_face:
        return True, "BertTokenizer's rule: no file names a class, and the weights are Hugging Face's"
    return False, "PaddleNLP's rule: no file names a class, and the weights are PaddleNLP's"


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
