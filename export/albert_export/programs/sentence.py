"""The vector of a text: which pooling a program computes, and the steps behind it."""

from dataclasses import dataclass, replace

import numpy as np

from albert_runtime.artifact import sentence
from albert_runtime.artifact.sentence import SentenceHead, Step

from .expressions import Activation, Linear, NotFitting
from .pooling import Greatest, WeightedSum

# torch.nn's names.
_ACTIVATIONS = {"gelu": "GELU", "relu": "ReLU", "sigmoid": "Sigmoid", "tanh": "Tanh"}
_CLOSE = 2e-3  # weights may have been computed in 16 bits


@dataclass(frozen=True)
class Vector:
    """What makes a text's vector: poolings, joined, then steps. ``maps``: the maps of the dense ones."""

    head: SentenceHead
    maps: tuple[Linear, ...] = ()

    def then(self, of: Linear) -> "Vector":
        """With a linear map behind it."""
        inputs, outputs = of.weight.shape
        step = Step(sentence.DENSE, inputs, outputs, of.bias is not None, "Identity")
        return Vector(replace(self.head, steps=(*self.head.steps, step)), (*self.maps, of))

    def activated(self, of: Activation) -> "Vector":
        """With an activation of the map that is its last step."""
        *steps, last = self.head.steps or (None,)
        if of.name not in _ACTIVATIONS or not isinstance(last, Step) or last.activation != "Identity":
            raise NotFitting(f"it makes {of.name} of a text's vector")
        steps.append(replace(last, activation=_ACTIVATIONS[of.name]))
        return Vector(replace(self.head, steps=tuple(steps)), self.maps)

    def normalized(self) -> "Vector":
        """Divided by its length."""
        return Vector(replace(self.head, steps=(*self.head.steps, Step(sentence.NORMALIZE))), self.maps)


CLS = Vector(SentenceHead((sentence.CLS,)))


def join(vectors: list[Vector]) -> Vector:
    """Poolings side by side."""
    if any(one.head.steps for one in vectors):
        raise NotFitting("it joins vectors that are no poolings")
    return Vector(SentenceHead(tuple(name for one in vectors for name in one.head.pooling)))


def pooling_of(of: WeightedSum | Greatest, kept: np.ndarray) -> Vector:
    """The pooling of texts whose tokens ``kept`` [B, T] are not masked; NotFitting if it is none."""
    mask = np.kron(np.eye(len(kept)), np.ones(kept.shape[1])) * kept.ravel()
    if isinstance(of, Greatest):
        if np.array_equal(of.kept, mask > 0):
            return Vector(SentenceHead((sentence.MAX,)))
        raise NotFitting("it takes the greatest of masked tokens, too")
    places = np.tile(np.arange(kept.shape[1]), len(kept)) + 1
    totals = mask.sum(axis=1, keepdims=True)
    by_place = mask * places
    last = by_place == by_place.max(axis=1, keepdims=True)
    first = by_place == np.where(by_place > 0, by_place, np.inf).min(axis=1, keepdims=True)
    for name, weights in (
        (sentence.MEAN, mask / totals),
        (sentence.MEAN_SQRT_LENGTH, mask / np.sqrt(totals)),
        (sentence.WEIGHTED_MEAN, by_place / by_place.sum(axis=1, keepdims=True)),
        (sentence.LAST_TOKEN, last.astype(float)),
        (sentence.CLS, first.astype(float)),
    ):
        if np.allclose(of.weights, weights, rtol=_CLOSE, atol=1e-9):
            return Vector(SentenceHead((name,)))
    raise NotFitting("it weighs tokens as no pooling of sentence-transformers does")
