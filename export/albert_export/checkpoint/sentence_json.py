"""The small JSON files of a sentence-transformers folder and their fields, read without trust."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from albert_runtime.errors import ArtifactError

from ..errors import ExportError

_MAX_BYTES = 1 << 24
_MOST = 1 << 30


def read_object(path: Path, *, needed: bool = False) -> Mapping[str, Any]:
    """A JSON object; {} if there is no such file, unless it is ``needed``."""
    if not path.is_file() and not needed:
        return {}
    values = _read(path)
    if not isinstance(values, dict):
        raise ArtifactError(f"{path} holds no JSON object")
    return values


def read_list(path: Path) -> list[Any]:
    """A JSON list."""
    values = _read(path)
    if not isinstance(values, list):
        raise ArtifactError(f"{path} holds no JSON list")
    return values


def flag(path: Path, values: Mapping[str, Any], name: str, *, default: bool) -> bool:
    """A field that is true or false; null means the default."""
    value = values.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ArtifactError(f"{path}: {name} is neither true nor false")
    return value


def number(path: Path, values: Mapping[str, Any], name: str) -> int | None:
    """A field that is a whole number of 1 or more, or null."""
    value = values.get(name)
    if value is None:
        return None
    if type(value) is not int or not 1 <= value <= _MOST:
        raise ArtifactError(f"{path}: {name} is no whole number from 1 to {_MOST}")
    return value


def _read(path: Path) -> Any:
    if not path.is_file():
        raise ExportError(f"{path} is missing; fetch the folder again")
    if path.stat().st_size > _MAX_BYTES:
        raise ArtifactError(f"{path} is far larger than such a file can be")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not readable as JSON ({str(error)[:80]})") from None
