"""All that tensors can come from; with sentence-transformers' folders, those of their dense steps too."""

from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.artifact.sentence import DENSE, PREFIX, SentenceHead
from albert_runtime.artifact.tasks import Head

from .checkpoint.stored_tensor import FLOATS, StoredTensor
from .checkpoint.weight_files import read_tensors
from .checkpoint.weights import CheckpointWeights, Loaded, RandomWeights, Tensors
from .errors import ExportError
from .programs.weights import ProgramWeights

if TYPE_CHECKING:
    from hashlib import _Hash as Digest

_STORED = {"weight": "linear.weight", "bias": "linear.bias"}


@dataclass(frozen=True)
class SentenceWeights:
    """An encoder's checkpoint or program, and ``files``, one for each dense step of the head, in order."""

    encoder: CheckpointWeights | ProgramWeights
    files: tuple[Path, ...]

    def origin(self, sha256: str) -> dict[str, object]:
        """See CheckpointWeights.origin; the files of the dense steps come after the encoder's."""
        origin = self.encoder.origin(sha256)
        names = [path.name for path in self.encoder.files]
        names += [f"{path.parent.name}/{path.name}" for path in self.files]
        return {**origin, "files": names}

    def load(self, config: AlbertConfig, head: Head, digest: "Digest | None" = None) -> Loaded:
        """See CheckpointWeights.load."""
        assert head.sentence is not None
        tensors, left_out = self.encoder.load(config, replace(head, sentence=None), digest)
        return chain(tensors, list(self._dense(head.sentence, config.hidden_size, digest))), left_out

    def _dense(self, sentence: SentenceHead, hidden_size: int, digest: "Digest | None") -> Tensors:
        shapes = sentence.tensor_shapes(hidden_size)
        steps = [index for index, step in enumerate(sentence.steps) if step.kind == DENSE]
        for index, path in zip(steps, self.files, strict=True):
            stored = dict(read_tensors((path,), digest))
            for part, name in _STORED.items():
                full = f"{PREFIX}{index}.{part}"
                if full in shapes:
                    yield full, _values(path, name, stored.pop(name, None), shapes[full])
            if stored:
                raise ExportError(f"{path}: tensor {min(stored)!r:.80} is no part of its Dense module")


WeightSource = RandomWeights | CheckpointWeights | ProgramWeights | SentenceWeights


def _values(path: Path, name: str, tensor: object, shape: tuple[int, ...]) -> np.ndarray:
    """A stored tensor, [out, in], in the model's layout [in, out]."""
    if not isinstance(tensor, StoredTensor):
        raise ExportError(f"{path}: tensor {name} is missing")
    if tensor.shape != shape[::-1]:
        raise ExportError(f"{path}: {name} has shape {list(tensor.shape)} instead of {list(shape[::-1])}")
    if tensor.dtype not in FLOATS:
        raise ExportError(f"{path}: {name} is of type {tensor.dtype}, which is no float")
    return np.ascontiguousarray(tensor.float32().T)
