"""How an artifact's files are called (STEM + suffix), and sizes as users read them."""

import re
from pathlib import Path

from albert_runtime.artifact import manifest

PROGRAM_SUFFIXES = {"pdmodel": ".pdmodel", "json": ".json"}
WEIGHTS_SUFFIX = ".pdiparams"
ONNX_SUFFIX = ".onnx"
TOKENIZER_SUFFIX = ".tokenizer.json"
MANIFEST_SUFFIX = manifest.SUFFIX

ALL_SUFFIXES = (*PROGRAM_SUFFIXES.values(), WEIGHTS_SUFFIX, ONNX_SUFFIX, TOKENIZER_SUFFIX, MANIFEST_SUFFIX)

_PLAIN_STEM = re.compile(r"(?!\.)[^/\\\x00-\x1f\x7f\ud800-\udfff]{1,200}")


def is_plain_stem(stem: str) -> bool:
    """Whether STEM can start the names of an artifact's files: one visible path component."""
    return _PLAIN_STEM.fullmatch(stem) is not None


def model_name(folder: Path) -> str:
    """What a checkpoint's folder calls its model; in a Hugging Face cache that is the repository's name.

    There it is models--OWNER--NAME/snapshots/COMMIT.
    """
    folder = folder.resolve()
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.split("--", 2)[-1]
    return folder.name


def human_size(count: int) -> str:
    """Bytes as people read them: 46.7 MB (decimal units)."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}" if unit != "GB" else f"{count / scale:.2f} {unit}"
    return f"{count} B"
