"""What operators on rows make of expressions: softmax, LayerNorm, means, matrix products."""

from typing import Any

import numpy as np

from .elementwise import Operand, plus
from .expressions import (
    Centered,
    Lookup,
    Mean,
    Norm,
    NotFitting,
    Probabilities,
    Scores,
    Softmax,
    Value,
    Variance,
    is_square,
    known_array,
    number_of,
    rounded_epsilon,
    whole,
)
from .graph import Node
from .pooling import mean_of_rows
from .products import matmul


def _is_last(axis: Any, rank: int) -> bool:
    return isinstance(axis, int) and axis in (-1, rank - 1)


def softmax(node: Node, value: Operand) -> Value:
    assert isinstance(value, Value)
    if not _is_last(node.attributes.get("axis", -1), len(value.shape)):
        raise NotFitting("softmax over another axis than the last")
    base, scale = value.scaled()
    if isinstance(base.of, Scores) and base.is_whole():
        scores = base.of
        if scale != 1.0:
            bias = None if scores.bias is None else scores.bias * scale
            columns = scores.q_columns, scores.k_columns
            scores = Scores(
                scores.node, scores.shape, scores.q, scores.k, *columns, scores.scale * scale, bias
            )
        return Value(Probabilities(node, scores.shape, scores), base.at, node)
    rows = value.whole_rows()
    if not rows.all:
        raise NotFitting("softmax of some rows alone")
    return whole(Softmax(node, rows.of.shape, rows.of), value.shape, node)


def layer_norm(
    node: Node, value: Operand, weight: Operand | None = None, bias: Operand | None = None
) -> Value:
    if not isinstance(value, Value) or not _is_last(node.attributes.get("axis", -1), len(value.shape)):
        raise NotFitting("LayerNorm over other axes than the last")
    eps = number_of(node, "epsilon", 1e-5)
    vectors = [
        None if known is None else np.asarray(known_array(known), np.float64).ravel()
        for known in (weight, bias)
    ]
    if any(vector is not None and len(vector) != value.shape[-1] for vector in vectors):
        raise NotFitting("LayerNorm has another number of weights than its rows of columns")
    rows = value.whole_rows()
    norm = Norm(node, (len(rows.rows), value.shape[-1]), rows, rounded_epsilon(eps), *vectors)
    return whole(norm, value.shape, node)


def mean(node: Node, value: Operand, axes: Operand | None = None) -> Value:
    over = np.ravel(axes).tolist() if isinstance(axes, np.ndarray) else []
    if isinstance(value, Value) and over in ([1], [-2]) and len(value.shape) == 3:
        return mean_of_rows(node, value, np.ravel(over))
    if not isinstance(value, Value) or len(over) != 1 or not _is_last(over[0], len(value.shape)):
        raise NotFitting("a mean over other axes than the last")
    if not node.attributes.get("keepdims", 1):
        raise NotFitting("a mean that is no part of LayerNorm")
    shape = (*value.shape[:-1], 1)
    if isinstance(value.of, Centered) and is_square(value.function) and value.is_whole():
        return whole(Variance(node, (value.of.shape[0], 1), value.of.x), shape, node)
    rows = value.whole_rows()
    if not rows.all:
        raise NotFitting("a mean of some rows alone")
    return whole(Mean(node, (rows.of.shape[0], 1), rows.of), shape, node)


def matmul_of(node: Node, x: Operand, y: Operand) -> Value:
    # A table that multiplies, such as a decoder's, is a matrix.
    x, y = (one if isinstance(one, Value) and not _is_table(one) else known_array(one) for one in (x, y))  # type: ignore[assignment]
    return matmul(node, x, y)


def _is_table(value: Value) -> bool:
    return isinstance(value.of, Lookup) and value.node.op == "Slice"


def gemm(node: Node, x: Operand, y: Operand, bias: Operand | None = None) -> Value:
    product = matmul_of(node, x, y)
    if bias is None:
        return product
    return plus(node, product, np.asarray(known_array(bias)) * number_of(node, "beta", 1.0))
