"""Where the tensors come from: seeded random numbers or a checkpoint; one at a time, to bound memory."""

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.artifact.tasks import Head

from .tensor_names import arrange
from .weight_files import read_stored

_BLOCK = 1 << 22

Tensors = Iterator[tuple[str, np.ndarray]]
# The tensors (name, float32 array) in model order, and the names of those that the model has no use for.
Loaded = tuple[Tensors, list[str]]


@dataclass(frozen=True)
class RandomWeights:
    """Seeded weights: normal with deviation initializer_range; LayerNorm 1 and 0, biases 0."""

    seed: int

    def origin(self) -> dict[str, object]:
        """The manifest's ``weights_origin``."""
        return {"kind": "random", "seed": self.seed}

    def load(self, config: AlbertConfig, head: Head) -> Loaded:
        """Every tensor; each depends on seed, name and shape only, not on the model's depth."""
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

    ``spare``: starts of the names of tensors that the model may leave unread.
    """

    files: tuple[Path, ...]
    library: str
    spare: tuple[str, ...]

    def origin(self) -> dict[str, object]:
        """The manifest's ``weights_origin``; reads the files for their sha256 (shards one after another)."""
        digest = hashlib.sha256()
        for path in self.files:
            _update(digest, path, 0, path.stat().st_size)
        names = [path.name for path in self.files]
        return {"kind": "checkpoint", "format": self.library, "files": names, "sha256": digest.hexdigest()}

    def load(self, config: AlbertConfig, head: Head) -> Loaded:
        """Every tensor, each released as the next is asked for; AlbertError if the files do not fit."""
        placed, left_out = arrange(read_stored(self.files), self.library, config, head, self.spare)
        return ((name, placed.pop(name).values()) for name in list(placed)), left_out


WeightSource = RandomWeights | CheckpointWeights


def source_to_json(source: WeightSource) -> dict[str, object]:
    """A source as a request to the worker process."""
    if isinstance(source, RandomWeights):
        return {"seed": source.seed}
    return {
        "files": [str(path) for path in source.files],
        "library": source.library,
        "spare": list(source.spare),
    }


def source_from_json(values: dict[str, Any]) -> WeightSource:
    """The inverse of ``source_to_json``."""
    if "files" in values:
        files = tuple(Path(name) for name in values["files"])
        return CheckpointWeights(files, values["library"], tuple(values["spare"]))
    return RandomWeights(values["seed"])


def tensor_sha256(tensor: np.ndarray) -> str:
    """sha256 of a tensor's bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(tensor).data).hexdigest()


def file_sha256(path: Path, offset: int = 0, length: int | None = None) -> str:
    """sha256 of ``length`` bytes of a file from ``offset`` on (None: to its end)."""
    digest = hashlib.sha256()
    _update(digest, path, offset, path.stat().st_size - offset if length is None else length)
    return digest.hexdigest()


def _update(digest: "hashlib._Hash", path: Path, offset: int, left: int) -> None:
    with path.open("rb") as file:
        file.seek(offset)
        while left > 0:
            block = file.read(min(left, _BLOCK))
            if not block:
                break
            digest.update(block)
            left -= len(block)
