"""Attention in different spellings."""

import math

import numpy as np
from onnx import TensorProto

from .maps import Maps
from .nodes import HEADS, HIDDEN, LAYER, SIZE, WAYS

PADDING = 3
LOWEST = float(np.finfo(np.float32).min)


class Attention(Maps):
    """Queries, keys and values, their scores, masks, and what comes of them."""

    def heads_of(self, x: str) -> tuple[str, str, str]:
        """Queries, keys and values by head, [B, heads, T, d]."""
        q, k, v = getattr(self, f"maps_{self.ways.get('maps', WAYS['maps'][0])}")(x)
        return self.by_head(q), self.by_head(k), self.by_head(v)

    def by_head(self, x: str) -> str:
        """[B, T, H] as [B, heads, T, d]; what lies by head already is left."""
        return x[1:] if x.startswith("=") else self.way("heads", x)

    def maps_apart(self, x: str) -> list[str]:
        return [self.linear(x, f"{LAYER}.attention.{part}") for part in ("query", "key", "value")]

    def fused(self, x: str) -> str:
        parts = ("query", "key", "value")
        for kind in ("weight", "bias"):
            joined = [self.tensors[f"{LAYER}.attention.{part}.{kind}"] for part in parts]
            self.tensors[f"{LAYER}.attention.fused.{kind}"] = np.concatenate(joined, -1)
        return self.linear(x, f"{LAYER}.attention.fused")

    def maps_split(self, x: str) -> list[str]:
        first = self.add("Split", self.fused(x), [HIDDEN] * 3, axis=-1, outputs=3)
        return [first, f"{first}.1", f"{first}.2"]

    def maps_slices(self, x: str) -> list[str]:
        fused = self.fused(x)
        return [self.add("Slice", fused, [i * HIDDEN], [(i + 1) * HIDDEN], [2]) for i in range(3)]

    def maps_gathered(self, x: str) -> list[str]:
        shaped = self.add("Reshape", self.fused(x), [0, 0, 3, HEADS, SIZE])
        turned = self.add("Transpose", shaped, perm=[2, 0, 3, 1, 4])
        return [f"={self.add('Gather', turned, i, axis=0)}" for i in range(3)]

    def heads_reshape(self, x: str) -> str:
        return self.add("Transpose", self.add("Reshape", x, [0, 0, HEADS, SIZE]), perm=[0, 2, 1, 3])

    def heads_of_shape(self, x: str) -> str:
        shape = self.add("Concat", self.add("Slice", self.add("Shape", x), [0], [2]), [HEADS, SIZE], axis=0)
        return self.add("Transpose", self.add("Reshape", x, shape), perm=[0, 2, 1, 3])

    def heads_split(self, x: str) -> str:
        first = self.add("Split", x, [SIZE] * HEADS, axis=2, outputs=HEADS)
        pieces = [first, *(f"{first}.{place}" for place in range(1, HEADS))]
        return self.add("Concat", *(self.add("Unsqueeze", piece, [1]) for piece in pieces), axis=1)

    def scores(self, q: str, k: str) -> str:
        if self.wrong == "another scale":
            return self.add("Mul", self.product(q, k), 0.5)
        return self.way("scale", q, k)

    def product(self, q: str, k: str) -> str:
        return self.way("product", q, k)

    def product_transpose(self, q: str, k: str) -> str:
        return self.add("MatMul", q, self.add("Transpose", k, perm=[0, 1, 3, 2]), name="q x k")

    def product_fused(self, q: str, k: str) -> str:
        return self.add("com.microsoft.FusedMatMul", q, k, transB=1, name="q x k")

    def product_einsum(self, q: str, k: str) -> str:
        return self.add("Einsum", q, k, equation="bhqd,bhkd->bhqk", name="q x k")

    def scale_scores(self, q: str, k: str) -> str:
        return self.add("Div", self.product(q, k), math.sqrt(SIZE))

    def scale_times(self, q: str, k: str) -> str:
        return self.add("Mul", 1 / math.sqrt(SIZE), self.product(q, k))

    def scale_query(self, q: str, k: str) -> str:
        return self.product(self.add("Mul", q, 1 / math.sqrt(SIZE)), k)

    def scale_key(self, q: str, k: str) -> str:
        return self.product(q, self.add("Div", k, math.sqrt(SIZE)))

    def scale_both(self, q: str, k: str) -> str:
        return self.product(self.add("Mul", q, SIZE**-0.25), self.add("Mul", k, SIZE**-0.25))

    def scale_shape(self, q: str, k: str) -> str:
        size = self.add(
            "Cast", self.add("Slice", self.add("Shape", q), [-1], [1 << 40]), to=TensorProto.FLOAT
        )
        return self.product(self.add("Div", q, self.add("Sqrt", size)), k)

    def masked(self, scores: str, layer: int) -> str:
        if self.wrong == "a mask in one layer" and layer:
            return scores
        if self.wrong == "a causal mask":
            length = self.add("Gather", self.add("Shape", "input_ids"), 1)
            square = self.add("Concat", *[self.add("Unsqueeze", length, [0])] * 2, axis=0)
            ones = self.add("ConstantOfShape", square)
            future = self.add("Trilu", self.add("Sub", ones, 1e4), 1, upper=1)
            return self.add("Add", scores, future, name="causal")
        return self.way("mask", scores)

    def kept(self) -> str:
        """The mask as [B, 1, 1, T]."""
        return self.add("Unsqueeze", self.token_mask(), [1, 2])

    def token_mask(self) -> str:
        """Which tokens count, [B, T]."""
        if self.wrong == "a word that masks":
            words = self.add("Not", self.add("Equal", "input_ids", np.array(PADDING)))
            return self.add("Cast", words, to=TensorProto.INT64)
        return "attention_mask"

    def mask_added(self, scores: str) -> str:
        left = self.add("Sub", 1.0, self.add("Cast", self.kept(), to=TensorProto.FLOAT))
        return self.add("Add", scores, self.add("Mul", left, -10000.0))

    def mask_lowest(self, scores: str) -> str:
        left = self.add("Sub", 1.0, self.add("Cast", self.kept(), to=TensorProto.FLOAT))
        return self.add("Add", self.add("Mul", left, LOWEST), scores)

    def mask_minus(self, scores: str) -> str:
        mask = self.add("Cast", self.kept(), to=TensorProto.FLOAT)
        return self.add("Add", scores, self.add("Mul", self.add("Sub", mask, 1.0), 1e9))

    def mask_where(self, scores: str) -> str:
        mask = self.add("Cast", self.kept(), to=TensorProto.BOOL)
        return self.add("Where", mask, scores, -np.inf)

    def mask_where_not(self, scores: str) -> str:
        mask = self.add("Equal", self.kept(), np.array(0))
        spread = self.add("Expand", mask, self.add("Shape", scores))
        return self.add("Where", spread, LOWEST, scores)

    def mask_log(self, scores: str) -> str:
        return self.add("Add", scores, self.add("Log", self.add("Cast", self.kept(), to=TensorProto.FLOAT)))

    def mask_filled(self, scores: str) -> str:
        mask = self.add("Cast", self.kept(), to=TensorProto.BOOL)
        return self.add("Add", scores, self.add("Where", mask, 0.0, LOWEST))

    def joined(self, context: str) -> str:
        """[B, heads, T, d] through attention's dense map."""
        return self.way("merge", context, f"{LAYER}.attention.dense")

    def merge_reshape(self, context: str, name: str) -> str:
        rows = self.add("Reshape", self.add("Transpose", context, perm=[0, 2, 1, 3]), [0, 0, HIDDEN])
        return self.linear(rows, name)

    def merge_einsum(self, context: str, name: str) -> str:
        weight = self.weight(f"{name}.weight", lambda values: values.reshape(HEADS, SIZE, HIDDEN))
        rows = self.add("Transpose", context, perm=[0, 2, 1, 3])
        product = self.add("Einsum", rows, weight, equation="bfnd,ndh->bfh")
        return self.add("Add", product, self.weight(f"{name}.bias"))

    def merge_concat(self, context: str, name: str) -> str:
        pieces = [self.add("Gather", context, np.array(head), axis=1) for head in range(HEADS)]
        return self.linear(self.add("Concat", *pieces, axis=2), name)
