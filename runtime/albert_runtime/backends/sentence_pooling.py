"""sentence_embedding from hidden states, in numpy: for our engines, and for prompts that are left out.

The program and the graph compute the same in nodes of their own. An engine's result takes a thousandth of its
forward pass here, and one place serves the CPU, the GPU and ``embed``. Sums run in float64, over a row's own
tokens one after another, so that a row's vector does not depend on the batch.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from ..artifact.artifact import Artifact
from ..artifact.sentence import (
    CLS,
    LAST_TOKEN,
    LEAST_NORM,
    MAX,
    MEAN,
    MEAN_SQRT_LENGTH,
    NORMALIZE,
    PREFIX,
    WEIGHTED_MEAN,
    SentenceHead,
)
from ..batch.packed import PackedBatch
from ..errors import ArtifactError
from .base import Array

Vector = NDArray[np.float64]

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805
_SOFTPLUS_LINEAR = 20.0  # torch's threshold
_erf = np.vectorize(math.erf, otypes=[np.float64])


def _softplus(x: Vector) -> Vector:
    return np.where(x > _SOFTPLUS_LINEAR, x, np.logaddexp(0.0, x))


def _exp_minus_one(x: Vector) -> Vector:
    return np.expm1(np.minimum(x, 0.0))


def _sigmoid(x: Vector) -> Vector:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


# torch.nn's classes with their default arguments.
_ACTIVATIONS: dict[str, Callable[[Vector], Vector]] = {
    "Identity": lambda x: x,
    "Tanh": np.tanh,
    "ReLU": lambda x: np.maximum(x, 0.0),
    "ReLU6": lambda x: np.clip(x, 0.0, 6.0),
    "LeakyReLU": lambda x: np.where(x > 0, x, 0.01 * x),
    "ELU": lambda x: np.where(x > 0, x, _exp_minus_one(x)),
    "SELU": lambda x: _SELU_SCALE * np.where(x > 0, x, _SELU_ALPHA * _exp_minus_one(x)),
    "GELU": lambda x: 0.5 * x * (1.0 + _erf(x / math.sqrt(2.0))),
    "SiLU": lambda x: x * _sigmoid(x),
    "Mish": lambda x: x * np.tanh(_softplus(x)),
    "Sigmoid": _sigmoid,
    "Softplus": _softplus,
}

# Sums, products, quotients and roots are rounded alike everywhere; the other activations' last bits are those
# of a C library, or of the instructions that numpy found.
_SAME_BITS_EVERYWHERE = frozenset(("Identity", "ReLU", "ReLU6", "LeakyReLU"))


def same_bits_everywhere(head: SentenceHead) -> bool:
    """Whether equal hidden states give sentence_embedding the same bits on every machine."""
    return all(step.kind == NORMALIZE or step.activation in _SAME_BITS_EVERYWHERE for step in head.steps)


class SentencePooler:
    """Pools the hidden states of rows and takes the steps of a sentence head."""

    def __init__(self, head: SentenceHead, tensors: Mapping[str, Array]) -> None:
        """``tensors``: those of ``head.tensor_shapes``, by name."""
        self._head = head
        self._tensors = {name: values.astype(np.float64) for name, values in tensors.items()}

    @classmethod
    def of(cls, artifact: Artifact) -> "SentencePooler | None":
        """The pooler of an artifact, its tensors read; None for one that has no sentence head.

        ArtifactError if a tensor is not float32 or cannot be read, or the weight file is another.
        """
        manifest = artifact.manifest
        if manifest is None or manifest.head.sentence is None:
            return None
        path, tensors = artifact.files["weights"], {}
        records = [record for record in manifest.tensors if record.name.startswith(PREFIX)]
        if records:
            artifact.verify_file("weights")
        for record in records:
            if record.dtype != "float32":
                raise ArtifactError(f"{path}: {record.name} is {record.dtype}; it must be float32")
            try:
                flat = np.fromfile(path, np.float32, record.length // 4, offset=record.offset)
                tensors[record.name] = flat.reshape(record.shape)
            except (OSError, ValueError) as error:
                raise ArtifactError(f"{path}: {record.name} cannot be read ({error})") from None
        return cls(manifest.head.sentence, tensors)

    def pool(self, hidden: Array, batch: PackedBatch) -> Array:
        """Padded hidden states [B, T, H] of a batch to vectors [B, D], float32."""
        kept, starts = batch.unmasked(), batch.row_starts
        vectors = []
        for row, states in enumerate(hidden):
            tokens = slice(starts[row], starts[row + 1])
            columns = batch.positions[tokens][kept[tokens]]
            vectors.append(self.row(states[columns], columns))
        return np.array(vectors, np.float32).reshape(len(hidden), -1)

    def row(self, states: Array, columns: NDArray[np.int32], skip: int = 0) -> Vector:
        """The vector [D] of a row.

        Args:
            states: Hidden states [n, H] of its unmasked tokens, n at least 1.
            columns: Their columns in the padded array, ascending.
            skip: So many columns from its first token on are not pooled: a prompt's. One token must remain.
        """
        places = columns - columns[0]
        pooled = places >= skip
        rows, places = states[pooled].astype(np.float64), places[pooled]
        vector = np.concatenate([_pooled(kind, rows, places) for kind in self._head.pooling])
        for index, step in enumerate(self._head.steps):
            if step.kind == NORMALIZE:
                vector = vector / max(float(np.sqrt(np.add.reduce(vector * vector))), LEAST_NORM)
                continue
            weight, bias = (
                self._tensors[f"{PREFIX}{index}.weight"],
                self._tensors.get(f"{PREFIX}{index}.bias"),
            )
            # Not a matrix product, whose order of summation would be the library's.
            vector = np.add.reduce(vector[:, None] * weight, axis=0)
            vector = _ACTIVATIONS[step.activation](vector if bias is None else vector + bias)
        return vector


def _pooled(kind: str, rows: Vector, places: NDArray[np.int32]) -> Vector:
    """One pooling of a row's tokens [n, H], which lie ``places`` columns behind its first: [H]."""
    vector: Vector
    if kind == CLS:
        vector = rows[0]
    elif kind == LAST_TOKEN:
        vector = rows[-1]
    elif kind == MAX:
        vector = rows.max(axis=0)
    else:
        assert kind in (MEAN, MEAN_SQRT_LENGTH, WEIGHTED_MEAN)
        weights = np.ones(len(rows)) if kind != WEIGHTED_MEAN else places + 1.0
        weight = float(weights.sum())
        total = np.add.reduce(rows * weights[:, None], axis=0)
        vector = total / (math.sqrt(weight) if kind == MEAN_SQRT_LENGTH else weight)
    return vector
