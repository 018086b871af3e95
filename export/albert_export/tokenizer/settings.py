"""What lies beside a vocabulary: the tokenizer's class, its options and the tokens it names."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ExportError

Json = dict[str, Any]

CONFIG_NAME = "tokenizer_config.json"
# Classes whose tokenizer is BertTokenizer's, without "Fast" at the end.
BERT = (
    "BertTokenizer",
    "ConvBertTokenizer",
    "DistilBertTokenizer",
    "ElectraTokenizer",
    "LayoutLMTokenizer",
    "LxmertTokenizer",
    "MobileBertTokenizer",
    "SqueezeBertTokenizer",
)
ALBERT = ("AlbertTokenizer", "AlbertEnglishTokenizer", "AlbertChineseTokenizer")

_MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class Settings:
    """tokenizer_config.json, special_tokens_map.json and added_tokens.json, whichever are there.

    ``class_name``: the tokenizer's class, without "Fast", and ``class_file`` the file that names it; both
    None if no file does.
    """

    folder: Path
    values: Mapping[str, Any]
    extra: Mapping[str, Any]
    class_name: str | None
    class_file: str | None

    @classmethod
    def read(cls, folder: Path) -> "Settings":
        """Which file wins is transformers' rule; ExportError if one is not readable."""
        config = _read_object(folder / CONFIG_NAME)
        special = _read_object(folder / "special_tokens_map.json")
        extra = _read_object(folder / "added_tokens.json")
        if config.get("added_tokens_decoder") is not None:
            # It says all that the two older files said, and transformers then reads neither.
            special, extra = {}, {}
        name, file = _class(folder, config)
        return cls(folder, {**config, **special}, extra, name, file)

    @property
    def is_bert(self) -> bool:
        """Whether the class is BertTokenizer, or one that tokenizes like it."""
        return self.class_name in BERT

    @property
    def by_transformers_5(self) -> bool:
        """Whether transformers 5 wrote tokenizer_config.json: earlier versions name no backend."""
        return "backend" in self.values

    def option(self, name: str) -> bool | None:
        """An option of the tokenizer's class; None if no file sets it."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, bool):
            raise ExportError(f"{self.folder / CONFIG_NAME}: {name} is neither true nor false")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        """An option of the tokenizer's class that has a default."""
        value = self.option(name)
        return default if value is None else value

    def max_length(self) -> int | None:
        """Tokens of a row, special ones included, that the tokenizer cuts to; None if no file says.

        transformers writes 1e30 for "no limit".
        """
        value = self.values.get("model_max_length", self.values.get("max_len"))
        if value is None:
            return None
        whole = isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
        if not whole or value < 1:
            raise ExportError(
                f"{self.folder / CONFIG_NAME}: model_max_length is {value!r:.40}; give a whole number of at "
                "least 1"
            )
        return int(value)

    def cuts_left(self) -> bool | None:
        """Whether texts that are too long lose their beginning; None if no file says."""
        side = self.values.get("truncation_side")
        if side not in (None, "left", "right"):
            raise ExportError(
                f"{self.folder / CONFIG_NAME}: truncation_side is {side!r:.40}, not left or right"
            )
        return None if side is None else side == "left"

    def has_token_types(self) -> bool:
        """Whether the second text of a pair has token type 1: a tokenizer may leave token types out.

        In transformers 5 all but BertTokenizer do, unless told otherwise. In version 4 none does, but that
        cannot read what version 5 writes of them.
        """
        names = self.values.get("model_input_names")
        if names is None:
            return self.is_bert or not self.by_transformers_5
        if not isinstance(names, list):
            raise ExportError(f"{self.folder / CONFIG_NAME}: model_input_names is no list")
        return "token_type_ids" in names

    def check_supported(self) -> None:
        """Refuse what no tokenizer.json can say."""
        if self.flag("split_special_tokens", default=False):
            raise ExportError(
                f"{self.folder / CONFIG_NAME}: split_special_tokens true cannot be kept in a tokenizer.json; "
                "set it to false"
            )


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


def _class(folder: Path, config: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The class of the tokenizer, and the file that names it: transformers looks into both."""
    for file, values in ((CONFIG_NAME, config), ("config.json", _read_object(folder / "config.json"))):
        name = values.get("tokenizer_class")
        if isinstance(name, str):
            return name.removesuffix("Fast") if name != "PreTrainedTokenizerFast" else name, file
        if name is not None:
            raise ExportError(f"{folder / file}: tokenizer_class is {name!r:.40}, not the name of a class")
    return None, None


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
