"""What all ways of answering share: their setting, the checks on texts, and the form of one way."""

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..batch.checks import too_long
from ..batch.packed import Limits
from ..errors import InputError
from .tokenizer import Encoded, TextEncoder

# Zero-width joiner and non-joiner, within words of Indic scripts and Persian.
_JOINERS = ("\u200c", "\u200d")

Answer = dict[str, Any]
Results = Mapping[str, NDArray[np.float32]]
Run = Callable[..., Results]  # Predictor.run
# Rows that run together: the choices of a question; one row elsewhere.
Unit = Sequence[Encoded]


@dataclass(frozen=True, slots=True)
class Setting:
    """The model that answers: from its manifest, its limits, tokenizer and ``run``."""

    name: str
    task: str
    labels: tuple[str, ...]
    outputs: tuple[str, ...]
    hidden_size: int
    limits: Limits
    encoder: TextEncoder
    run: Run
    multi_label: bool = False  # see tasks.Head


class Method(ABC):
    """One way of answering, of which ``stream`` makes answers: a thin layer over Predictor.run."""

    tasks: ClassVar[tuple[str, ...]]
    usage: ClassVar[str]  # how to call it, for whoever called another
    options: ClassVar[tuple[str, ...]] = ()  # keywords that it takes
    outputs: tuple[str, ...]

    def __init__(self, setting: Setting, *, truncate: bool = False) -> None:
        self.setting = setting
        self.truncate = truncate

    @abstractmethod
    def validate(self, item: object, row: int) -> Any:
        """The item if it can be answered; InputError that names its row if not."""

    @abstractmethod
    def units(self, items: Sequence[Any], first_row: int) -> list[list[Unit]]:
        """Of each item, what has to run for it; ``first_row`` is the number of the first item."""

    @abstractmethod
    def reduce(self, results: Results, units: Sequence[Unit]) -> list[Any]:
        """What is kept of a batch's results, for each of its units."""

    @abstractmethod
    def answer(self, item: Any, units: Sequence[Unit], kept: Sequence[Any]) -> Any:
        """The answer to an item from what was kept of its units."""

    def positions(self, unit: Unit) -> list[int] | None:
        """The columns to score, for methods that ask for some only."""
        return None


class TextMethod(Method):
    """A method whose items are single texts, or pairs where ``pairs`` says so."""

    pairs: ClassVar[bool] = True

    def validate(self, item: object, row: int) -> Any:
        """See Method.validate."""
        pair = isinstance(item, tuple | list) and len(item) == 2 and self.pairs
        if not pair:
            return validate_text(item, row, "a string or a pair of strings" if self.pairs else "a string")
        return tuple(validate_text(part, row, "a string") for part in item)  # type: ignore[attr-defined]

    def units(self, items: Sequence[Any], first_row: int) -> list[list[Unit]]:
        """See Method.units."""
        rows = self.setting.encoder.encode(items, self.truncate, first_row)
        for row, encoded in enumerate(rows, first_row):
            check_row(encoded, f"row {row}", self.setting.limits)
        return [[[encoded]] for encoded in rows]


def validate_text(text: object, row: int, form: str) -> str:
    """The text; InputError if it is none, empty or no valid Unicode."""
    if not isinstance(text, str):
        raise InputError(f"row {row} is of type {type(text).__name__}, not {form}")
    if not text.strip():
        raise InputError(f"row {row} is an empty text; leave it out")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"row {row} is no valid Unicode ({error.reason}); repair how the text was decoded"
        ) from None
    return text


def check_row(encoded: Encoded, where: str, limits: Limits) -> None:
    """InputError if the model cannot take the row; ``run`` would name it by its place in some batch."""
    longest, vocabulary = limits.max_position_embeddings, limits.vocab_size
    if longest is not None and len(encoded.ids) > longest:
        raise too_long(where, len(encoded.ids), longest)
    if vocabulary is not None and max(encoded.ids) >= vocabulary:
        raise InputError(
            f"{where}: the tokenizer gives id {max(encoded.ids)}, the model has {vocabulary} ids; "
            "export again with the tokenizer of this model"
        )


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities along the last axis, in float64."""
    values = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    shares: NDArray[np.float64] = values / values.sum(axis=-1, keepdims=True)
    return shares


def sigmoid(logits: NDArray[Any]) -> NDArray[np.float64]:
    """The probability of each by itself, in float64."""
    values: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
    return values


def joined(before: str, after: str) -> bool:
    """Whether two characters next to each other belong to one word: Chinese has no spaces to tell.

    Marks, such as accents and the vowels of Indic scripts, belong to the letter before them.
    """
    if not (before and after and (before.isalnum() or is_mark(before))):
        return False
    return is_mark(after) or (after.isalnum() and not (_is_cjk(before) or _is_cjk(after)))


def is_mark(character: str) -> bool:
    """Whether a character is part of the one before it, or joins it to the next."""
    return character in _JOINERS or unicodedata.category(character).startswith("M")


def _is_cjk(character: str) -> bool:
    return "\u2e80" <= character <= "\u9fff" or "\U00020000" <= character <= "\U0003ffff"
