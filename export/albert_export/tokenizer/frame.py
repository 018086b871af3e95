"""The parts of a tokenizer.json that stand around its model, whatever that is."""

from dataclasses import dataclass, field

from .settings import Json, Settings
from .special_tokens import SpecialTokens

# An entry must have a number; none of those who read it takes this one.
_LONGEST = 512


@dataclass(frozen=True)
class Made:
    """A decoded tokenizer.json, None for the file as it lies; ``rule``: how it treats case and accents."""

    content: Json | None
    rule: str
    notes: list[str] = field(default_factory=list)


def case(lowercase: bool) -> str:
    """A rule's words for lower-casing."""
    return "folds case" if lowercase else "keeps case"


def accents(keep: bool) -> str:
    """A rule's words for accents."""
    return "keeps accents" if keep else "strips accents"


def frame(tokens: SpecialTokens, settings: Settings) -> Json:
    """Added tokens, [CLS] A [SEP] B [SEP], and how texts are cut."""
    cls, sep = tokens.roles["cls_token"], tokens.roles["sep_token"]
    content: Json = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": tokens.entries,
        "post_processor": template((cls, tokens.ids[cls]), (sep, tokens.ids[sep])),
    }
    apply_settings(content, settings)
    return content


def apply_settings(content: Json, settings: Settings) -> bool:
    """Change a tokenizer.json as the JSON files beside it say; whether there was anything to change.

    Truncation itself is the caller's decision, so of the entry only the side counts.
    """
    changed = False
    left = settings.cuts_left()
    truncation = content.get("truncation") or {}
    if left is not None and left != (truncation.get("direction") == "Left"):
        default = {"max_length": _LONGEST, "strategy": "LongestFirst", "stride": 0}
        content["truncation"] = {**default, **truncation, "direction": "Left" if left else "Right"}
        changed = True
    processor = content.get("post_processor")
    if processor and not settings.has_token_types():
        content["post_processor"] = _without_types(processor)
        changed |= content["post_processor"] != processor
    return changed


def _without_types(processor: Json) -> Json:
    """The post-processor with token type 0 for both texts of a pair."""
    match processor["type"]:
        case "Sequence":
            return {**processor, "processors": [_without_types(part) for part in processor["processors"]]}
        case "BertProcessing":
            return _without_types(template(tuple(processor["cls"]), tuple(processor["sep"])))
        case "TemplateProcessing":
            parts = {
                form: [
                    {kind: {**piece, "type_id": 0} for kind, piece in part.items()}
                    for part in processor[form]
                ]
                for form in ("single", "pair")
            }
            return {**processor, **parts}
    return processor


def template(cls: tuple[str, int], sep: tuple[str, int]) -> Json:
    """[CLS] A [SEP] with token types 0, B [SEP] with 1, from (token, id) of [CLS] and [SEP]."""

    def part(kind: str, name: str, type_id: int) -> Json:
        return {kind: {"id": name, "type_id": type_id}}

    single = [part("SpecialToken", cls[0], 0), part("Sequence", "A", 0), part("SpecialToken", sep[0], 0)]
    second = [part("Sequence", "B", 1), part("SpecialToken", sep[0], 1)]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*({kind: dict(piece) for kind, piece in part.items()} for part in single), *second],
        "special_tokens": {
            token: {"id": token, "ids": [index], "tokens": [token]} for token, index in (cls, sep)
        },
    }


def replace(pattern: Json, content: str) -> Json:
    """The normalizer that puts a text in place of a pattern."""
    return {"type": "Replace", "pattern": pattern, "content": content}


def sequence(key: str, steps: list[Json]) -> Json | None:
    """Steps one after another; None for no step."""
    return {"type": "Sequence", key: steps} if steps else None
