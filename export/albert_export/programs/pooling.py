"""What makes a text's vector out of hidden states, as expressions: sums of rows, greatest of rows, lengths.

Which pooling a sum is, its weights tell: they are known, as they depend on the mask alone.
"""

from dataclasses import dataclass

import numpy as np

from .expressions import Expression, Lookup, Norm, NotFitting, Rows, Value, is_square, whole
from .graph import Node

_BELOW_ALL = -1e4


@dataclass(eq=False)
class Weighted(Expression):
    """Each row times a number of ``weights`` [R]."""

    x: Expression
    weights: np.ndarray


@dataclass(eq=False)
class WeightedSum(Expression):
    """weights [B, R] @ rows [R, C]: one row for each text."""

    x: Expression
    weights: np.ndarray


@dataclass(eq=False)
class Kept(Expression):
    """Rows of which those that are not ``kept`` [R] are below all others in every column."""

    x: Expression
    kept: np.ndarray


@dataclass(eq=False)
class Greatest(Expression):
    """For each text the greatest number of each column, of its rows ``kept`` [B, R]."""

    x: Expression
    kept: np.ndarray


@dataclass(eq=False)
class Joined(Expression):
    """Rows side by side."""

    parts: tuple[Rows, ...]


@dataclass(eq=False)
class Length(Expression):
    """The Euclidean length of each row, [R, 1]."""

    x: Rows


@dataclass(eq=False)
class Normalized(Expression):
    """Each row divided by its length."""

    x: Rows


def weighted(node: Node, value: Value, known: np.ndarray) -> Value | None:
    """Rows times numbers, one for each; None if ``known`` is none, or the value is no whole rows."""
    columns = value.of.shape[-1]
    if len(value.of.shape) != 2 or value.shape[-1:] != (columns,) or not value.is_whole():
        return None
    if np.broadcast_shapes(value.shape, known.shape) != value.shape:
        return None
    numbers = np.broadcast_to(known, value.shape).reshape(-1, columns).astype(np.float64)
    if (numbers != numbers[:, :1]).any():
        return None
    base, scale = value.scaled()
    of, factors = base.of, numbers[:, 0] * scale
    if isinstance(of, WeightedSum):
        return whole(WeightedSum(node, of.shape, of.x, of.weights * factors[:, None]), value.shape, node)
    if isinstance(of, Lookup):
        return _padded(node, of, factors, value)
    if isinstance(of, Weighted):
        factors = of.weights * factors
        of = of.x
    return whole(Weighted(node, of.shape, of, factors), value.shape, node)


def _padded(node: Node, of: Lookup, factors: np.ndarray, value: Value) -> Value | None:
    """A table's rows with those of one id made zeros; None if they are others."""
    zeros = np.unique(of.indices[factors == 0])
    if len(zeros) != 1 or of.padding_idx is not None or not np.array_equal(factors, of.indices != zeros[0]):
        return None
    return whole(Lookup(node, of.shape, of.table, of.indices, int(zeros[0])), value.shape, node)


def kept_rows(node: Node, value: Value, mask: np.ndarray, other: np.ndarray) -> Value | None:
    """Rows with something very small in place of those that are masked; None if it is none of that."""
    columns = value.of.shape[-1]
    spread = np.broadcast_to(mask, value.shape).reshape(-1, columns)
    if not isinstance(value.of, Norm) or not value.is_whole() or (other > _BELOW_ALL).any():
        return None
    if (spread != spread[:, :1]).any():
        return None
    return whole(Kept(node, value.of.shape, value.of, spread[:, 0]), value.shape, node)


def sum_of_rows(node: Node, value: Value | np.ndarray, axes: np.ndarray | None = None) -> Value:
    """The sum over each text's tokens; of squares in each row, the square of its length."""
    if isinstance(value, Value) and is_square(value.function):
        lengths = length_of_rows(node, Value(value.of, value.at, node), axes)
        return Value(lengths.of, lengths.at, node, lambda x: x * x)
    texts, length, columns, shape = _over_tokens(node, value, axes)
    assert isinstance(value, Value)
    base, scale = value.scaled()
    matrix = np.kron(np.eye(texts), np.ones(length)) * scale
    of = base.of
    if isinstance(of, Weighted):
        matrix = matrix * of.weights
        of = of.x
    return whole(WeightedSum(node, (texts, columns), of, matrix), shape, node)


def product_with_rows(node: Node, weights: np.ndarray, value: Value) -> Value:
    """Numbers [B, 1, T] times each text's rows [B, T, C]: another form of their sum."""
    texts, length, columns = value.shape if len(value.shape) == 3 else (0, 0, 0)
    if len(value.of.shape) != 2 or not value.is_whole() or weights.shape != (texts, 1, length):
        raise NotFitting("it multiplies a matrix with hidden states, not hidden states with a matrix")
    base, scale = value.scaled()
    matrix = np.kron(np.eye(texts), np.ones(length)) * (weights.reshape(-1) * scale)
    return whole(WeightedSum(node, (texts, columns), base.of, matrix), (texts, 1, columns), node)


def mean_of_rows(node: Node, value: Value, axes: np.ndarray | None) -> Value:
    """The mean over each text's tokens, masked ones and all."""
    total = sum_of_rows(node, value, axes)
    of = total.of
    assert isinstance(of, WeightedSum)
    of.weights = of.weights / value.shape[-2]
    return total


def greatest_of_rows(node: Node, value: Value | np.ndarray, axes: np.ndarray | None = None) -> Value:
    """The greatest over each text's tokens."""
    texts, length, columns, shape = _over_tokens(node, value, axes)
    assert isinstance(value, Value)
    matrix = np.kron(np.eye(texts), np.ones(length)) > 0
    of = value.plain().of
    if isinstance(of, Kept):
        matrix = matrix & of.kept
        of = of.x
    return whole(Greatest(node, (texts, columns), of, matrix), shape, node)


def length_of_rows(node: Node, value: Value | np.ndarray, axes: np.ndarray | None = None) -> Value:
    """The length of each row, kept as an axis of size 1."""
    over = [] if axes is None else np.ravel(axes).tolist()
    if not isinstance(value, Value) or over not in ([-1], [len(value.shape) - 1]):
        raise NotFitting("a length over other axes than the last")
    if not node.attributes.get("keepdims", 1):
        raise NotFitting("a length that no row is divided by")
    rows = value.whole_rows()
    return whole(Length(node, (len(rows.rows), 1), rows), (*value.shape[:-1], 1), node)


def normalized(node: Node, value: Value, length: Value) -> Value | None:
    """Rows divided by their lengths, which may have a least one; None if they are not."""
    of, rows = length.of, value.plain().whole_rows()
    if node.op != "Div" or not isinstance(of, Length) or of.x.of is not rows.of:
        return None
    if not np.array_equal(of.x.rows, rows.rows):
        return None
    if length.function is not None:
        places = np.array([1e-3, 0.1, 2.0, 50.0])
        if not np.allclose(length.function(places), places, rtol=1e-9):
            return None
    return whole(Normalized(node, (len(rows.rows), value.shape[-1]), rows), value.shape, node)


def joined(node: Node, *values: Value | np.ndarray) -> Value:
    """Rows side by side, or pieces of one value, as which its heads may lie."""
    first, axis = values[0], node.attributes.get("axis")
    if not isinstance(first, Value) or not isinstance(axis, int):
        raise NotFitting("it puts a constant beside hidden states")
    last = axis in (-1, len(first.shape) - 1)
    pieces = [
        one.at for one in values if isinstance(one, Value) and one.of is first.of and one.function is None
    ]
    if len(pieces) == len(values) and not (
        last and first.shape[-1] == first.of.shape[-1] and len(values) > 1
    ):
        return Value(first.of, np.concatenate(pieces, axis), node, first.function)
    if not last:
        raise NotFitting("it puts hidden states behind each other")
    parts: list[Rows] = []
    for value in values:
        if not isinstance(value, Value):
            raise NotFitting("it puts a constant beside hidden states")
        parts.append(value.whole_rows())
    shape = (*first.shape[:-1], sum(value.shape[-1] for value in values))
    return whole(Joined(node, (len(parts[0].rows), shape[-1]), tuple(parts)), shape, node)


def _over_tokens(
    node: Node, value: Value | np.ndarray, axes: np.ndarray | None
) -> tuple[int, int, int, tuple[int, ...]]:
    """Texts, tokens, columns and the shape of what is left, for a reduction over the tokens [B, T, C]."""
    over = [] if axes is None else np.ravel(axes).tolist()
    if not isinstance(value, Value) or len(value.shape) != 3 or over not in ([1], [-2]):
        raise NotFitting("over other axes than the tokens of a text")
    if len(value.of.shape) != 2 or not value.is_whole():
        raise NotFitting("over other rows than a text's")
    texts, length, columns = value.shape
    left = (texts, 1, columns) if node.attributes.get("keepdims", 1) else (texts, columns)
    return texts, length, columns, left
