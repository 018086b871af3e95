"""Where what is made once per machine is kept, and under which names."""

import os
import re
from pathlib import Path

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._-]")
_MAX_LETTERS = 100


def cache_folder(kind: str) -> Path | None:
    """$XDG_CACHE_HOME, or ~/.cache, /albert-runtime/KIND; None where there is no home."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache").absolute() / "albert-runtime" / kind
    except RuntimeError:
        return None


def cache_name(model: str, digest: str) -> str:
    """NAME-HASH; of the name only plain letters, since a manifest may come from anywhere."""
    return f"{_NOT_PLAIN.sub('_', model)[:_MAX_LETTERS]}-{digest[:16]}"
