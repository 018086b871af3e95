"""The sentence head as ONNX nodes: pooling, dense steps, normalization, all in float32."""

import numpy as np
from onnx import TensorProto

from albert_runtime.artifact.sentence import (
    BELOW_ALL,
    CLS,
    DENSE,
    LAST_TOKEN,
    LEAST_NORM,
    LEAST_WEIGHT,
    MAX,
    MEAN_SQRT_LENGTH,
    PREFIX,
    WEIGHTED_MEAN,
    SentenceHead,
)
from albert_runtime.artifact.tasks import SENTENCE_EMBEDDING

from .onnx_nodes import NodeBuilder

# ONNX's own operators with torch's default arguments; the others are written out below.
_OPERATORS: dict[str, tuple[str, dict[str, object]]] = {
    "Tanh": ("Tanh", {}),
    "ReLU": ("Relu", {}),
    "LeakyReLU": ("LeakyRelu", {"alpha": 0.01}),
    "ELU": ("Elu", {}),
    "SELU": ("Selu", {}),
    "GELU": ("Gelu", {"approximate": "none"}),
    "Mish": ("Mish", {}),
    "Sigmoid": ("Sigmoid", {}),
    "Softplus": ("Softplus", {}),
}


class SentenceNodes(NodeBuilder):
    """Builds the nodes from hidden states [B, T, H] and the mask to the output sentence_embedding [B, D]."""

    def embed_sentence(self, head: SentenceHead, hidden: str) -> None:
        """The output, from the wide hidden states."""
        mask = self.add("Cast", "sentence/mask", self.inputs["attention_mask"], to=TensorProto.FLOAT)
        vectors = [self.pooled(f"sentence/{kind}", kind, hidden, mask) for kind in head.pooling]
        x = vectors[0] if len(vectors) == 1 else self.add("Concat", "sentence/joined", *vectors, axis=-1)
        for index, step in enumerate(head.steps):
            name, weights = f"sentence/step{index}", f"{PREFIX}{index}"
            if step.kind == DENSE:
                x = self.add("MatMul", name, x, f"{weights}.weight")
                if step.bias:
                    x = self.add("Add", f"{name}_bias", x, f"{weights}.bias")
                x = self.sentence_activation(f"{name}_activation", step.activation, x)
            else:
                norm = self.add("ReduceL2", f"{name}_norm", x, self.constant("last_axis", [-1], np.int64))
                x = self.add("Div", name, x, self.at_least(f"{name}_divisor", norm, LEAST_NORM))
        self.add("Identity", SENTENCE_EMBEDDING, x)

    def pooled(self, name: str, kind: str, hidden: str, mask: str) -> str:
        """One pooling, [B, H]: the greatest values, or a sum over tokens with weights."""
        second = self.constant("second_axis", [1], np.int64)
        if kind == MAX:
            one = self.constant("one", 1.0, np.float32)
            masked = self.add("Sub", f"{name}/masked", one, mask)
            below = self.constant("below_all", BELOW_ALL, np.float32)
            column = self.add("Mul", f"{name}/below", masked, below)
            column = self.add(
                "Unsqueeze", f"{name}/column", column, self.constant("last_axis", [-1], np.int64)
            )
            kept = self.add("Add", f"{name}/kept", hidden, column)
            return self.add("ReduceMax", name, kept, second, keepdims=0)
        weights = self.weights(name, kind, mask, second)
        row = self.add("Unsqueeze", f"{name}/row", weights, second)
        return self.add("Squeeze", name, self.add("MatMul", f"{name}/sum", row, hidden), second)

    def weights(self, name: str, kind: str, mask: str, second: str) -> str:
        """What each token counts, [B, T]."""
        axis = self.constant("axis_1", 1, np.int64)
        if kind in (CLS, LAST_TOKEN):
            count = self.add("CumSum", f"{name}/count", mask, axis)
            if kind == CLS:
                one = self.constant("one", 1.0, np.float32)
            else:
                one = self.add("ReduceSum", f"{name}/total", mask, second)
            is_it = self.add("Equal", f"{name}/is_it", count, one)
            return self.add("Mul", f"{name}/weights", mask, self.as_float(f"{name}/one", is_it))
        weights = mask
        if kind == WEIGHTED_MEAN:  # 1 for the first unmasked token, then one more for each column
            count = self.add("CumSum", f"{name}/count", mask, axis)
            zero = self.constant("zero", 0.0, np.float32)
            before = self.as_float(f"{name}/before", self.add("Equal", f"{name}/is_before", count, zero))
            offset = self.add("ReduceSum", f"{name}/offset", before, second)
            shape = self.add("Shape", f"{name}/shape", mask)
            ones = self.add("Expand", f"{name}/ones", self.constant("one", 1.0, np.float32), shape)
            columns = self.add("CumSum", f"{name}/columns", ones, axis)
            places = self.add("Sub", f"{name}/places", columns, offset)
            weights = self.add("Mul", f"{name}/weights", mask, places)
        total = self.add("ReduceSum", f"{name}/total", weights, second)
        divisor = self.at_least(f"{name}/divisor", total, LEAST_WEIGHT)
        if kind == MEAN_SQRT_LENGTH:
            divisor = self.add("Sqrt", f"{name}/root", divisor)
        return self.add("Div", f"{name}/shares", weights, divisor)

    def as_float(self, name: str, x: str) -> str:
        return self.add("Cast", name, x, to=TensorProto.FLOAT)

    def at_least(self, name: str, x: str, least: float) -> str:
        return self.add("Max", name, x, self.constant(f"at_least_{least:g}", least, np.float32))

    def sentence_activation(self, name: str, activation: str, x: str) -> str:
        if activation == "Identity":
            return x
        if activation == "SiLU":
            return self.add("Mul", name, x, self.add("Sigmoid", f"{name}_sigmoid", x))
        if activation == "ReLU6":
            zero, six = (self.constant(f"{value:g}", value, np.float32) for value in (0.0, 6.0))
            return self.add("Clip", name, x, zero, six)
        operator, attributes = _OPERATORS[activation]
        return self.add(operator, name, x, **attributes)
