"""Linear maps, LayerNorm and activations in different spellings."""

import math
from collections.abc import Callable

import numpy as np
from onnx import TensorProto

from .nodes import CONFIG, LAYER, Nodes


class Maps(Nodes):
    """What a layer does to each token by itself."""

    # ---- Linear maps

    def linear(self, x: str, name: str, outer: str = "", rank: int = 3) -> str:
        made = self.way("linear" if rank == 3 else "flat", x, name)
        if self.wrong == "two biases" and name == f"{LAYER}.ffn":
            made = self.add("Add", made, np.arange(CONFIG.intermediate_size) / 8, name="second bias")
        return made

    def linear_matmul(self, x: str, name: str) -> str:
        return self.add(
            "Add", self.add("MatMul", x, self.weight(f"{name}.weight")), self.weight(f"{name}.bias")
        )

    def linear_bias_first(self, x: str, name: str) -> str:
        return self.add(
            "Add", self.weight(f"{name}.bias"), self.add("MatMul", x, self.weight(f"{name}.weight"))
        )

    def linear_transposed(self, x: str, name: str) -> str:
        turned = self.add("Transpose", self.weight(f"{name}.weight", np.transpose), perm=[1, 0])
        return self.add("Add", self.add("MatMul", x, turned), self.weight(f"{name}.bias"))

    def linear_gemm(self, x: str, name: str) -> str:
        return self.rows(x, name, lambda rows: self.flat_gemm(rows, name))

    def linear_gemm_of_transposed(self, x: str, name: str) -> str:
        return self.rows(x, name, lambda rows: self.flat_gemm_of_transposed(rows, name))

    def linear_einsum(self, x: str, name: str) -> str:
        product = self.add("Einsum", x, self.weight(f"{name}.weight"), equation="bth,ho->bto")
        return self.add("Add", product, self.weight(f"{name}.bias"))

    def rows(self, x: str, name: str, product: Callable[[str], str]) -> str:
        inputs, outputs = self.tensors[f"{name}.weight"].shape
        shape = self.add("Shape", x)
        flat = self.add("Reshape", x, [-1, inputs])
        sizes = self.add("Concat", self.add("Slice", shape, [0], [2]), [outputs], axis=0)
        return self.add("Reshape", product(flat), sizes)

    def flat_gemm(self, x: str, name: str) -> str:
        return self.add("Gemm", x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"))

    def flat_gemm_of_transposed(self, x: str, name: str) -> str:
        return self.add(
            "Gemm", x, self.weight(f"{name}.weight", np.transpose), self.weight(f"{name}.bias"), transB=1
        )

    def flat_matmul(self, x: str, name: str) -> str:
        return self.linear_matmul(x, name)

    # ---- LayerNorm

    def norm(self, x: str, name: str, epsilon: float | None = None) -> str:
        eps = CONFIG.layer_norm_eps if epsilon is None else epsilon
        return self.way("norm", x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"), eps)

    def norm_whole(self, x: str, weight: str, bias: str, eps: float) -> str:
        return self.add("LayerNormalization", x, weight, bias, epsilon=eps, axis=-1)

    def norm_pow(self, x: str, weight: str, bias: str, eps: float) -> str:
        centered = self.centered(x)
        root = self.add("Sqrt", self.variance(self.add("Pow", centered, 2.0), eps))
        return self.scaled(self.add("Div", centered, root), weight, bias)

    def norm_square(self, x: str, weight: str, bias: str, eps: float) -> str:
        centered = self.centered(x)
        root = self.add("Pow", self.variance(self.add("Mul", centered, centered), eps), 0.5)
        return self.scaled(self.add("Div", centered, root), weight, bias)

    def norm_inverse(self, x: str, weight: str, bias: str, eps: float) -> str:
        centered = self.centered(x)
        inverse = self.add("Reciprocal", self.add("Sqrt", self.variance(self.add("Pow", centered, 2.0), eps)))
        return self.scaled(self.add("Mul", inverse, centered), weight, bias)

    def norm_inverse_power(self, x: str, weight: str, bias: str, eps: float) -> str:
        centered = self.centered(x)
        inverse = self.add("Pow", self.variance(self.add("Mul", centered, centered), eps), -0.5)
        return self.scaled(self.add("Mul", centered, inverse), weight, bias)

    def norm_cast(self, x: str, weight: str, bias: str, eps: float) -> str:
        wide = self.add("Cast", self.centered(x), to=TensorProto.DOUBLE)
        mean = self.add("ReduceMean", self.add("Mul", wide, wide), [-1])
        root = self.add("Sqrt", self.add("Add", mean, self.add("Cast", eps, to=TensorProto.DOUBLE)))
        normed = self.add("Div", wide, root)
        return self.scaled(self.add("Cast", normed, to=TensorProto.FLOAT), weight, bias)

    def centered(self, x: str) -> str:
        return self.add("Sub", x, self.add("ReduceMean", x, [-1]))

    def variance(self, squares: str, eps: float) -> str:
        return self.add("Add", self.add("ReduceMean", squares, [-1]), eps)

    def scaled(self, normed: str, weight: str, bias: str) -> str:
        return self.add("Add", self.add("Mul", normed, weight), bias)

    # ---- gelu_new

    def activation(self, x: str) -> str:
        if self.wrong == "another activation":
            return self.add("Mul", x, self.add("Sigmoid", x), name="swish")
        return self.way("activation", x)

    def activation_whole(self, x: str) -> str:
        return self.add("Gelu", x, approximate="tanh")

    def activation_fast(self, x: str) -> str:
        return self.add("com.microsoft.FastGelu", x)

    def activation_pow(self, x: str) -> str:
        cube = self.add("Mul", self.add("Pow", x, 3.0), 0.044715)
        return self.half_of(x, self.add("Add", x, cube))

    def activation_products(self, x: str) -> str:
        cube = self.add("Mul", self.add("Mul", self.add("Mul", 0.044715, x), x), x)
        return self.half_of(x, self.add("Add", cube, x))

    def activation_factored(self, x: str) -> str:
        square = self.add("Add", self.add("Mul", self.add("Mul", x, x), 0.044715), 1.0)
        inner = self.add("Mul", self.add("Mul", x, math.sqrt(2 / math.pi)), square)
        halves = self.add("Add", self.add("Mul", self.add("Tanh", inner), 0.5), 0.5)
        return self.add("Mul", halves, x)

    def activation_sigmoid(self, x: str) -> str:
        inner = self.add("Add", x, self.add("Mul", self.add("Pow", x, 3.0), 0.044715))
        return self.add("Mul", x, self.add("Sigmoid", self.add("Mul", inner, 2 * math.sqrt(2 / math.pi))))

    def half_of(self, x: str, inner: str) -> str:
        tanh = self.add("Tanh", self.add("Mul", inner, math.sqrt(2 / math.pi)))
        return self.add("Mul", self.add("Div", x, 2.0), self.add("Add", tanh, 1.0))
