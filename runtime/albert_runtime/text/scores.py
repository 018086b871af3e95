"""From logits to scores."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact.tasks import NONE, SIGMOID


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities along the last axis, in float64."""
    values = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    probabilities: NDArray[np.float64] = values / values.sum(axis=-1, keepdims=True)
    return probabilities


def sigmoid(logits: NDArray[Any]) -> NDArray[np.float64]:
    """An independent probability for each logit, in float64."""
    probabilities: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
    return probabilities


def activated(logits: NDArray[Any], activation: str) -> NDArray[np.float64]:
    """The scores that one of ``tasks.ACTIVATIONS`` makes of logits [..., columns], in float64."""
    if activation == NONE:
        return logits.astype(np.float64)
    return sigmoid(logits) if activation == SIGMOID else softmax(logits)
