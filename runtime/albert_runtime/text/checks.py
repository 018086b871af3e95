"""Checks that several text methods share."""

from ..batch.checks import too_long
from ..batch.packed import ModelLimits
from ..errors import InputError
from .encoded import Encoded
from .tokenizer import RowName


def validate_text(text: object, row: int, form: str, what: str = "row") -> str:
    """The text; InputError, which names it as ``what``, if it is no string, empty or not valid Unicode."""
    if not isinstance(text, str):
        raise InputError(f"{what} {row} is of type {type(text).__name__}, not {form}")
    if not text.strip():
        raise InputError(f"{what} {row} is an empty text; leave it out")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{what} {row} is no valid Unicode ({error.reason}); repair how the text was decoded"
        ) from None
    return text


def validate_row(encoded: Encoded, where: str, limits: ModelLimits) -> None:
    """InputError, which begins with ``where``, if a row does not fit the model."""
    longest, vocabulary = limits.max_position_embeddings, limits.vocab_size
    if longest is not None and len(encoded.ids) > longest:
        raise too_long(where, len(encoded.ids), longest)
    if vocabulary is not None and max(encoded.ids) >= vocabulary:
        raise InputError(
            f"{where}: the tokenizer gives id {max(encoded.ids)}, the model has {vocabulary} ids; "
            "export again with the tokenizer of this model"
        )


def row_names(first_row: int) -> RowName:
    """Names the texts of a window in errors, by their row among all texts."""
    return lambda index: f"row {first_row + index}"


def validate_count(name: str, value: object) -> int:
    """The value; InputError, which names the option, unless it is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} must be a whole number of at least 1, not {value!r}")
    return value
