"""What matrix products make of expressions: linear maps, attention's scores, and what they pick."""

from typing import Any

import numpy as np

from .expressions import Context, Linear, NotFitting, Probabilities, Scores, Value, number_of, whole
from .graph import Node
from .pooling import product_with_rows


def matmul(node: Node, x: Value | np.ndarray, y: Value | np.ndarray) -> Value:
    """x @ y, transposed and scaled as the node's attributes say. Raises NotFitting if no ALBERT does that."""
    if node.attributes.get("transA"):
        x = _swapped(x)
    if node.attributes.get("transB"):
        y = _swapped(y)
    alpha = number_of(node, "alpha", 1.0)
    if not isinstance(x, Value):
        assert isinstance(y, Value)
        return product_with_rows(node, x * alpha, y)
    if not isinstance(y, Value):
        return _linear(node, x, y, alpha)
    (left, left_scale), (right, right_scale) = x.scaled(), y.scaled()
    if isinstance(left.of, Probabilities):
        product = _context(node, left, right)
    else:
        product = _scores(node, left, right)
    scale = left_scale * right_scale * alpha
    if isinstance(product.of, Scores):
        product.of.scale = scale
        return product
    return product if scale == 1.0 else Value(product.of, product.at, node, lambda z: z * scale)


def _swapped(x: Value | np.ndarray) -> Any:
    if isinstance(x, Value):
        return Value(x.of, np.swapaxes(x.at, -1, -2), x.node, x.function)
    return np.swapaxes(x, -1, -2)


def _linear(node: Node, x: Value, weight: np.ndarray, alpha: float) -> Value:
    if weight.ndim < 2 or weight.size != weight.shape[-1] * weight.shape[-2]:
        raise NotFitting(f"it multiplies with a constant of shape {list(weight.shape)}, no matrix")
    inputs, outputs = weight.shape[-2:]
    value, scale = x.scaled()
    rows = value.whole_rows()
    if value.shape[-1] != inputs:
        raise NotFitting(f"its matrix has {inputs} rows for {value.shape[-1]} columns")
    made = Linear(node, (len(rows.rows), outputs), rows, weight.reshape(inputs, outputs))
    product = whole(made, (*value.shape[:-1], outputs), node)
    scale *= alpha
    return product if scale == 1.0 else Value(product.of, product.at, node, lambda z: z * scale)


def _by_head(value: Value) -> tuple[np.ndarray, np.ndarray]:
    """Of a value [.., T, d], by [G, T] which row each comes from and by [G, d] which column."""
    at = value.at.reshape(-1, *value.at.shape[-2:])
    columns = value.of.shape[-1]
    row, column = at // columns, at % columns
    rows, heads = row[:, :, 0], column[:, 0, :]
    if not (row == rows[:, :, None]).all() or not (column == heads[:, None, :]).all():
        raise NotFitting("it multiplies hidden states in another order than attention does")
    return rows, heads


def _columns(value: Value, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The columns [heads, d] of each head, given those by row of the batch and head."""
    length = rows.shape[1]
    batch = value.of.shape[0] // length
    heads, left = divmod(len(rows), batch)
    expected = np.repeat(np.arange(batch), heads)[:, None] * length + np.arange(length)
    by_head = columns[:heads]
    if left or not np.array_equal(rows, expected) or not (columns == np.tile(by_head, (batch, 1))).all():
        raise NotFitting("its heads lie in another order than attention's")
    return by_head


def _scores(node: Node, q: Value, k: Value) -> Value:
    if not (isinstance(q.of, Linear) and isinstance(k.of, Linear)) or len(q.shape) < 3 or len(k.shape) < 3:
        raise NotFitting("it multiplies two hidden states that are no queries and keys")
    turned = _swapped(k)
    if q.shape != turned.shape:
        raise NotFitting(f"it multiplies queries {list(q.shape)} with keys {list(k.shape)}")
    q_columns, k_columns = (_columns(one, *_by_head(one)) for one in (q, turned))
    heads, length = len(q_columns), q.shape[-2]
    shape = (q.at.size // (heads * length * q.shape[-1]), heads, length, length)
    made = Scores(node, shape, q.of, k.of, q_columns, k_columns, 1.0)
    return whole(made, (*q.shape[:-1], length), node)


def _context(node: Node, probabilities: Value, v: Value) -> Value:
    of = probabilities.of
    assert isinstance(of, Probabilities)
    if not isinstance(v.of, Linear) or len(v.shape) < 3 or not probabilities.is_whole():
        raise NotFitting("attention's probabilities multiply what are no values")
    columns = _columns(v, *_by_head(v))
    batch, heads, length, _ = of.shape
    size = columns.shape[1]
    if len(columns) != heads or v.of.shape[0] != batch * length:
        raise NotFitting("values have another number of heads than queries")
    # Place of [b, head, t, j] in rows of all heads, [B * T, heads * d].
    row = np.arange(batch)[:, None, None, None] * length + np.arange(length)[None, None, :, None]
    at = row * (heads * size) + np.arange(heads)[None, :, None, None] * size + np.arange(size)
    at = at.astype(np.int32)
    made = Context(node, (batch * length, heads * size), of, v.of, columns)
    return Value(made, at.reshape(*probabilities.shape[:-1], size), node)


def einsum(node: Node, *operands: Value | np.ndarray) -> Value:
    """A sum of products over letters, as a matrix product."""
    equation = str(node.attributes.get("equation", "")).replace(" ", "")
    terms, arrow, result = equation.partition("->")
    letters = terms.split(",")
    if len(operands) != 2 or len(letters) != 2 or not arrow or not all(map(str.isalpha, [*letters, result])):
        raise NotFitting(f"einsum {equation!r:.40} is no product of two")
    x, y = letters
    if any(len(set(one)) != len(one) for one in (x, y, result)):
        raise NotFitting(f"einsum {equation!r:.40} repeats a letter")
    if isinstance(operands[1], Value) or not isinstance(operands[0], Value):
        batch = [one for one in x if one in y and one in result]
    else:
        batch = []
    summed = [one for one in x if one in y and one not in result]
    x_free, y_free = ([one for one in term if one not in batch + summed] for term in (x, y))
    sizes = {
        one: size
        for term, operand in zip((x, y), operands, strict=True)
        for one, size in zip(term, operand.shape, strict=True)
    }
    if sorted(batch + x_free + y_free) != sorted(result):
        raise NotFitting(f"einsum {equation!r:.40} sums over one operand alone")
    first = _arranged(operands[0], x, [batch, x_free, summed], sizes, keep=len(batch))
    second = _arranged(operands[1], y, [batch, summed, y_free], sizes, keep=len(batch))
    product = matmul(Node("MatMul", node.inputs, node.outputs, {}, node.name, node.kind), first, second)
    order = batch + x_free + y_free
    at = product.at.reshape([sizes[one] for one in order]).transpose([order.index(one) for one in result])
    return Value(product.of, at, node, product.function)


def _arranged(
    operand: Value | np.ndarray, letters: str, groups: list[list[str]], sizes: dict[str, int], keep: int
) -> Any:
    """The operand with its letters in the groups' order, each group but the batch's as one axis."""
    order = [letters.index(one) for group in groups for one in group]
    batch, *rest = groups
    shape = [sizes[one] for one in batch] + [int(np.prod([sizes[one] for one in group])) for group in rest]
    if isinstance(operand, Value):
        at = operand.at.transpose(order).reshape(shape)
        return Value(operand.of, at, operand.node, operand.function)
    return operand.transpose(order).reshape(shape)
