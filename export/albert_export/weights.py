"""Where the tensors come from: seeded random numbers or a checkpoint; one at a time, to bound memory."""

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from albert_runtime.config import AlbertConfig

from .checkpoint import read_weights

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

    def load(self, config: AlbertConfig) -> Loaded:
        """Every tensor; each depends on seed, name and shape only, not on the model's depth."""
        return self._tensors(config), []

    def _tensors(self, config: AlbertConfig) -> Tensors:
        for name, shape in config.tensor_shapes().items():
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
    """The tensors of a .pdparams file."""

    path: Path

    def origin(self) -> dict[str, object]:
        """The manifest's ``weights_origin``; reads the whole file for its sha256."""
        return {"kind": "checkpoint", "format": "paddlenlp", "sha256": file_sha256(self.path)}

    def load(self, config: AlbertConfig) -> Loaded:
        """Every tensor, each released as the next is asked for; AlbertError if the file does not fit."""
        tensors, left_out = read_weights(self.path, config)
        return ((name, tensors.pop(name)) for name in config.tensor_shapes()), left_out


WeightSource = RandomWeights | CheckpointWeights


def source_to_json(source: WeightSource) -> dict[str, object]:
    """A source as a request to the worker process."""
    if isinstance(source, RandomWeights):
        return {"seed": source.seed}
    return {"path": str(source.path)}


def source_from_json(values: dict[str, object]) -> WeightSource:
    """The inverse of ``source_to_json``."""
    if "path" in values:
        return CheckpointWeights(Path(str(values["path"])))
    return RandomWeights(int(str(values["seed"])))


def tensor_sha256(tensor: np.ndarray) -> str:
    """sha256 of a tensor's bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(tensor).data).hexdigest()


def file_sha256(path: Path, offset: int = 0, length: int | None = None) -> str:
    """sha256 of ``length`` bytes of a file from ``offset`` on (None: to its end)."""
    digest = hashlib.sha256()
    left = path.stat().st_size - offset if length is None else length
    with path.open("rb") as file:
        file.seek(offset)
        while left > 0:
            block = file.read(min(left, _BLOCK))
            if not block:
                break
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()
