"""A tensor as a checkpoint file stores it: known by shape and type, read when it is needed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from albert_runtime.errors import ArtifactError

FLOATS = ("float32", "float16", "bfloat16", "float64")


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of ``path``. ``dtype`` is numpy's name for its type, or bfloat16, whose bits are uint16."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: str
    raw: Callable[[], np.ndarray]

    def float32(self) -> np.ndarray:
        """The values, in the file's layout; ArtifactError if one is no finite number or too large."""
        values = self.raw()
        if self.dtype == "bfloat16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        with np.errstate(over="ignore"):
            values = np.asarray(values, np.float32)
        if not np.isfinite(values).all():
            raise ArtifactError(
                f"{self.path} holds a value in {self.name} that is no finite float32 number; "
                "the checkpoint is damaged"
            )
        return values


# What a file holds by name: tensors, and whatever else (of which no model has a use).
StoredTensors = dict[str, StoredTensor | object]


def shown(name: str, limit: int = 100) -> str:
    """A name out of a file as it may stand in a message: short, on one line, without control characters."""
    text = name if len(name) <= limit else name[:limit] + "..."
    return "".join(character if character.isprintable() else "?" for character in text)
