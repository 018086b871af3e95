"""Where the tensors come from: seeded random numbers or a checkpoint; one at a time, to bound memory."""

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.artifact.tasks import Head

from .tensor_names import arrange
from .weight_files import read_tensors

if TYPE_CHECKING:
    from hashlib import _Hash as Digest

Tensors = Iterator[tuple[str, np.ndarray]]
# The tensors (name, float32 array) in model order, and the names of those that the model does not use.
Loaded = tuple[Tensors, list[str]]


@dataclass(frozen=True)
class RandomWeights:
    """Seeded weights: normal with deviation initializer_range; LayerNorm 1 and 0, biases 0."""

    seed: int

    def origin(self, sha256: str) -> dict[str, object]:
        """The manifest's ``weights_origin``; there are no files for ``sha256`` to be of."""
        return {"kind": "random", "seed": self.seed}

    def load(self, config: AlbertConfig, head: Head, digest: "Digest | None" = None) -> Loaded:
        """Every tensor; each depends on seed, name and shape only, not on the number of layers."""
        return self._tensors(config, head), []

    def _tensors(self, config: AlbertConfig, head: Head) -> Tensors:
        for name, shape in {**config.tensor_shapes(), **head.tensor_shapes(config)}.items():
            yield name, self._tensor(name, shape, config.initializer_range)

    def _tensor(self, name: str, shape: tuple[int, ...], deviation: float) -> np.ndarray:
        if name.endswith(".bias"):
            return np.zeros(shape, np.float32)
        if name.endswith("layer_norm.weight"):
            return np.ones(shape, np.float32)
        generator = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
        values = generator.standard_normal(shape, np.float32)
        values *= np.float32(deviation)
        return values


@dataclass(frozen=True)
class CheckpointWeights:
    """The tensors of a checkpoint's files, which ``library`` wrote.

    ``ignorable``: starts of the names of tensors that the model may leave unread.
    """

    files: tuple[Path, ...]
    library: str
    ignorable: tuple[str, ...]

    def origin(self, sha256: str) -> dict[str, object]:
        """The manifest's ``weights_origin``; ``sha256`` is that of all files, one after another."""
        # JSON is UTF-8, file names need not be.
        names = [path.name.encode(errors="replace").decode() for path in self.files]
        return {"kind": "checkpoint", "format": self.library, "files": names, "sha256": sha256}

    def load(self, config: AlbertConfig, head: Head, digest: "Digest | None" = None) -> Loaded:
        """Every tensor, each released as the next is asked for.

        Args:
            config: The encoder to load.
            head: The task's head to load.
            digest: Updated with the bytes of all files, in order, before this returns.

        Raises:
            AlbertError: The files are damaged or do not fit the model.
        """
        stored = read_tensors(self.files, digest)
        placed, left_out = arrange(stored, self.library, config, head, self.ignorable)
        return ((name, placed.pop(name).values()) for name in list(placed)), left_out


def tensor_sha256(tensor: np.ndarray) -> str:
    """sha256 of a tensor's bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(tensor).data).hexdigest()
