"""Fields of a JSON file from outside: read without trust, and errors of one line that name the field."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from ..errors import ArtifactError

MAX_BYTES = 16 * 2**20
_SHA256 = re.compile(r"[0-9a-f]{64}")


def load(path: Path) -> dict[str, Any]:
    """The object in a file of at most 16 MiB; ArtifactError if it is none."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ArtifactError(f"cannot be read ({error.strerror})") from None
    if len(raw) > MAX_BYTES:
        raise ArtifactError(f"is larger than {MAX_BYTES >> 20} MiB; it is no manifest of albert-runtime")
    try:
        data = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_small_int,
            parse_float=_finite,
            parse_constant=_finite,
        )
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "nested too deeply"
        raise ArtifactError(f"is not a valid manifest ({clip(reason)}); export the model again") from None
    if not isinstance(data, dict):
        raise ArtifactError("is not a JSON object; export the model again")
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"key {key!r} occurs twice")
        result[key] = value
    return result


def _small_int(text: str) -> int:
    # No field needs more than 63 bits, and the products of sizes must not grow without bound.
    if len(text) > 19:
        raise ValueError(f"the number {clip(text, 25)} is too large")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{clip(text, 25)} is no finite number")
    return value


def get(data: Mapping[str, Any], key: str, kind: type, where: str = "") -> Any:
    """The value of a field that must be there and of that type."""
    field = f"{where}.{key}" if where else key
    if key not in data:
        fail_field(field, "is missing")
    value = data[key]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        name = {int: "a whole number", str: "a string", dict: "an object", list: "a list"}[kind]
        fail_field(field, f"must be {name}, not {clip(value)}")
    return value


def choice(data: Mapping[str, Any], key: str, known: tuple[str, ...]) -> str:
    """A string that must be one of those known."""
    value: str = get(data, key, str)
    if value not in known:
        fail_field(
            key,
            f"is {clip(value)}; this albert-runtime knows {', '.join(known)}; upgrade it or export again",
        )
    return value


def strings(data: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """A list of strings."""
    values = get(data, key, list)
    if not all(isinstance(value, str) for value in values):
        fail_field(key, f"must hold strings, not {clip(values)}")
    return tuple(values)


def sha256_hex(data: Mapping[str, Any], key: str, where: str) -> str:
    """A sha256 in hexadecimal digits."""
    value: str = get(data, key, str, where)
    if not _SHA256.fullmatch(value):
        fail_field(f"{where}.{key}", "is not 64 hexadecimal digits")
    return value


def fail_field(field: str, what: str) -> NoReturn:
    """ArtifactError of a field."""
    raise ArtifactError(f"{field} {what}")


def clip(value: object, limit: int = 80) -> str:
    """A value for a message: on one line, not longer than the limit."""
    text = value if isinstance(value, str) and value.isprintable() else repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
