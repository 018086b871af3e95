"""Vectors of texts, as programs of sentence-transformers make them."""

from collections.abc import Callable

import numpy as np
from onnx import TensorProto

from .nodes import HIDDEN
from .program import Program

DENSE = np.random.default_rng(9).normal(0, 0.5, (HIDDEN, 4)).astype(np.float32)


class Vectors(Program):
    """An encoder whose one output is ``vector`` of its last hidden state."""

    def __init__(self, vector: Callable[["Vectors", str], str]) -> None:
        super().__init__({})
        self.vector = vector

    def outputs(self) -> list[str]:
        return [self.vector(self, self.states())]

    def mask(self) -> str:
        """The mask as floats [B, T, 1]."""
        return self.add("Unsqueeze", self.add("Cast", "attention_mask", to=TensorProto.FLOAT), [2])

    def weighted(self, x: str, weights: str) -> str:
        """The sum of tokens times weights [B, T, 1]."""
        return self.add("ReduceSum", self.add("Mul", x, weights), [1], keepdims=0)

    def mean(self, x: str) -> str:
        mask = self.mask()
        total = self.add("Clip", self.add("ReduceSum", mask, [1], keepdims=0), 1e-9)
        return self.add("Div", self.weighted(x, mask), total)

    def spread_mean(self, x: str) -> str:
        mask = self.add("Expand", self.mask(), self.add("Shape", x))
        total = self.add("Clip", self.add("ReduceSum", mask, [1], keepdims=0), 1e-9)
        return self.add("Div", self.weighted(x, mask), total)

    def root_mean(self, x: str) -> str:
        mask = self.mask()
        total = self.add("Sqrt", self.add("ReduceSum", mask, [1], keepdims=0))
        return self.add("Div", self.weighted(x, mask), total)

    def weighted_mean(self, x: str) -> str:
        places = self.add("CumSum", self.add("Abs", self.mask()), np.array(1))
        weights = self.add("Mul", places, self.mask())
        return self.add("Div", self.weighted(x, weights), self.add("ReduceSum", weights, [1], keepdims=0))

    def greatest(self, x: str) -> str:
        kept = self.add("Cast", self.add("Expand", self.mask(), self.add("Shape", x)), to=TensorProto.BOOL)
        return self.add("ReduceMax", self.add("Where", kept, x, -1e9), [1], keepdims=0)

    def all_greatest(self, x: str) -> str:
        return self.add("ReduceMax", x, [1], keepdims=0)

    def all_mean(self, x: str) -> str:
        return self.add("ReduceMean", x, [1], keepdims=0)

    def normalized(self, vector: str) -> str:
        length = self.add("ReduceL2", vector, [-1], keepdims=1)
        return self.add("Div", vector, self.add("Clip", length, 1e-12))

    def dense(self, vector: str, activation: str = "") -> str:
        made = self.add("Add", self.add("MatMul", vector, DENSE), np.arange(4) / 4)
        return self.add(activation, made) if activation else made
