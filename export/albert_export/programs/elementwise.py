"""What operators on single elements make of expressions: biases, sums, LayerNorm's steps, activations."""

import numpy as np

from .expressions import (
    Centered,
    Composed,
    Expression,
    Linear,
    Lookup,
    Mean,
    Norm,
    NotFitting,
    Rows,
    Scores,
    Sum,
    Value,
    Variance,
    root_epsilon,
    slope,
    whole,
)
from .graph import Node
from .operators import run_node
from .pooling import Length, Weighted, WeightedSum, kept_rows, normalized, weighted

Operand = np.ndarray | Value


def where(node: Node, condition: Operand, x: Operand, y: Operand) -> Operand:
    if isinstance(condition, Value):
        raise NotFitting("its condition depends on words")
    for chosen, all_of_it in ((x, condition.all()), (y, not condition.any())):
        if all_of_it:
            shape = np.broadcast_shapes(condition.shape, x.shape, y.shape)
            if isinstance(chosen, Value):
                return Value(chosen.of, np.broadcast_to(chosen.at, shape), node, chosen.function)
            return np.broadcast_to(chosen, shape)
    scores, other, mask = (x, y, condition) if isinstance(x, Value) else (y, x, ~condition)
    if not isinstance(scores, Value) or isinstance(other, Value):
        raise NotFitting("it mixes two hidden states")
    if isinstance(scores.of, Lookup) and not other.any():
        rows = weighted(node, scores, mask.astype(np.float32))
    else:
        rows = kept_rows(node, scores, mask, other)
    if rows is not None:
        return rows
    # Masked scores: what takes their place is as good as added to them.
    return plus(node, scores, np.where(mask, np.float32(0), other))


def through(node: Node, value: Operand, *rest: Operand | None) -> Value:
    if not isinstance(value, Value) or any(isinstance(one, Value) for one in rest):
        raise NotFitting("its bounds depend on words")

    def step(x: np.ndarray) -> np.ndarray:
        return run_node(node, (x, *rest))[0]  # type: ignore[arg-type]

    return Value(value.of, value.at, node, Composed(step, value.function))


def binary(node: Node, x: Operand, y: Operand, *rest: Operand) -> Value:
    """Two values, or a value and an array; of more, one after the other."""
    if rest:
        return binary(node, binary(node, x, y), *rest)
    if isinstance(x, Value) and isinstance(y, Value):
        return _two_values(node, x, y)
    value, known = (x, y) if isinstance(x, Value) else (y, x)
    if not isinstance(value, Value) or not isinstance(known, np.ndarray):
        raise NotFitting("an input of it is left out")
    if node.op in ("Add", "Sum"):
        return plus(node, value, known)
    if node.op == "Sub" and value is x:
        return plus(node, value, -known)
    made = None
    if node.op == "Mul":
        made = _times(node, value, known)
    elif node.op == "Div" and value is x:
        made = _times(node, value, 1 / known)
    return made or _with_number(node, value, known, first=value is x)


def _times(node: Node, value: Value, known: np.ndarray) -> Value | None:
    """LayerNorm with its weight, or rows with a number for each; None if it is neither."""
    if known.size > 1 and isinstance(value.of, Norm) and value.of.weight is None and value.of.bias is None:
        weight = _by_column(value.plain(), known)
        if weight is not None:
            norm = Norm(node, value.of.shape, value.of.x, value.of.eps, weight)
            return Value(norm, value.at, node)
    # One number for all is left to functions, but for what are rows with numbers of their own already.
    if known.size > 1 or isinstance(value.of, Weighted | WeightedSum):
        return weighted(node, value, known)
    return None


def _with_number(node: Node, value: Value, known: np.ndarray, *, first: bool) -> Value:
    """A value and one number that is known, each element by itself."""
    if known.size == 0 or np.ptp(known.astype(np.float64)) != 0:
        raise NotFitting("ALBERT has no such vector here")
    shape = np.broadcast_shapes(value.shape, known.shape)
    number = known.ravel()[0]

    def step(z: np.ndarray) -> np.ndarray:
        return run_node(node, (z, number) if first else (number, z))[0]

    return Value(value.of, np.broadcast_to(value.at, shape), node, Composed(step, value.function))


def plus(node: Node, value: Value, known: np.ndarray) -> Value:
    """A bias, the rows of a table that was folded into a constant, or what a mask adds."""
    if known.size == 1 and known.ndim <= 1 and value.function is not None and slope(value.function) is None:
        return _with_number(node, value, known, first=True)  # a step of an activation
    base, scale = value.scaled()
    made: Value | None = None
    match base.of:
        case Linear(bias=None) | Norm(bias=None):
            made = _with_bias(node, base, scale, known)
        case Norm() if known.ndim > 1:
            made = kept_rows(node, base, known == 0, np.where(known == 0, -np.inf, known))
        case Scores() if known.ndim > 1:
            made = _masked(node, base, scale, known)
        case Lookup() | Sum() if known.ndim > 1 and scale == 1.0:
            made = _sum(node, base, _folded(node, known))
    return made or _with_number(node, value, known, first=True)


def _with_bias(node: Node, value: Value, scale: float, known: np.ndarray) -> Value | None:
    """A linear map or LayerNorm with its bias; None if ``known`` is none."""
    vector, of = _by_column(value, known), value.of
    if vector is None:
        return None
    if isinstance(of, Linear):
        made: Expression = Linear(node, of.shape, of.x, of.weight, vector / scale)
    elif isinstance(of, Norm) and scale == 1.0:
        made = Norm(node, of.shape, of.x, of.eps, of.weight, vector)
    else:
        return None
    return _scaled(Value(made, value.at, node), scale)


def _masked(node: Node, value: Value, scale: float, known: np.ndarray) -> Value | None:
    """Scores with what a mask adds; None if they are not all there."""
    of = value.of
    if not isinstance(of, Scores) or not value.is_whole():
        return None
    bias = np.broadcast_to(known.astype(np.float64), value.shape).reshape(of.shape)
    bias = bias if of.bias is None else of.bias * scale + bias
    scores = Scores(node, of.shape, of.q, of.k, of.q_columns, of.k_columns, of.scale * scale, bias)
    return Value(scores, value.at, node)


def _folded(node: Node, known: np.ndarray) -> Value:
    """A table's rows as an exporter's constant: all alike, one token type's, else the first positions'."""
    rows = known.reshape(-1, known.shape[-1])
    alike = len(rows) > 1 and bool((rows == rows[0]).all())
    indices = np.zeros(len(rows), int) if alike else np.arange(len(rows))
    return whole(Lookup(node, rows.shape, rows[:1] if alike else rows, indices), known.shape, node)


def _scaled(value: Value, scale: float) -> Value:
    if scale == 1.0:
        return value
    return Value(value.of, value.at, value.node, lambda x: x * scale)


def _by_column(value: Value, known: np.ndarray) -> np.ndarray | None:
    """The vector [C] that ``known`` is for rows of C columns; None if it is none, or not for all columns."""
    columns = value.of.shape[-1]
    if np.broadcast_shapes(value.shape, known.shape) != value.shape or known.size > value.at.size:
        return None
    column = value.at % columns
    vector = np.full(columns, np.nan)
    spread = np.broadcast_to(known, value.shape)
    vector[column] = spread
    return vector if np.array_equal(vector[column], spread) and not np.isnan(vector).any() else None


def _two_values(node: Node, x: Value, y: Value) -> Value:
    if x.of is y.of and x.shape == y.shape and np.array_equal(x.at, y.at):

        def step(*both: np.ndarray) -> np.ndarray:
            return run_node(node, both)[0]

        return Value(x.of, x.at, node, Composed(step, x.function, y.function))
    if (
        node.op == "Sub"
        and isinstance(y.of, Mean)
        and y.function is None
        and x.plain().of is y.of.x
        and x.plain().is_whole()
    ):
        return whole(Centered(node, y.of.x.shape, y.of.x), x.shape, node)
    if node.op in ("Div", "Mul"):
        if node.op == "Mul" and isinstance(x.of, Variance):
            x, y = y, x
        norm = _norm_of(node, x, y)
        if norm is not None:
            return norm
    if isinstance(y.of, Length):
        rows = normalized(node, x, y)
        if rows is not None:
            return rows
    if node.op in ("Add", "Sum"):
        return _sum(node, x, y)
    raise NotFitting("ALBERT does not join hidden states in this way")


def _norm_of(node: Node, x: Value, y: Value) -> Value | None:
    """Centered rows divided by the root of their variance."""
    centered, variance = x.of, y.of
    if (
        not isinstance(centered, Centered)
        or not isinstance(variance, Variance)
        or centered.x is not variance.x
    ):
        return None
    if x.function is not None or y.function is None:
        return None
    eps = root_epsilon(y.function, inverse=node.op == "Mul")
    if eps is None:
        return None
    rows = Rows(centered.x, np.arange(centered.x.shape[0]))
    return Value(Norm(node, centered.shape, rows, eps), x.at, node)


def _sum(node: Node, x: Value, y: Value) -> Value:
    shape = np.broadcast_shapes(x.shape, y.shape)
    parts = [Value(one.of, np.broadcast_to(one.at, shape), one.node) for one in (x.plain(), y.plain())]
    rows = [part.whole_rows() for part in parts]
    return whole(Sum(node, (len(rows[0].rows), shape[-1]), *rows), shape, node)
