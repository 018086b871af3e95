"""What each operator makes of expressions: the rules by which a program's nodes become ALBERT's parts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .expressions import (
    Centered,
    Expression,
    Linear,
    Lookup,
    Mean,
    Norm,
    NotFitting,
    Probabilities,
    Rows,
    Scores,
    Softmax,
    Sum,
    Value,
    Variance,
    is_square,
    root_epsilon,
    rounded_epsilon,
    slope,
    whole,
)
from .graph import Node
from .operators import run_node
from .products import einsum, matmul

Operand = np.ndarray | Value
# Those that move elements, or drop some; their other inputs are known.
_MOVES = frozenset(
    (
        "Dropout",
        "Expand",
        "Flatten",
        "Gather",
        "GatherElements",
        "GatherND",
        "Identity",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    )
)
_ONE_INPUT = frozenset(
    (
        "Abs",
        "Clip",
        "Erf",
        "Exp",
        "Gelu",
        "Log",
        "Neg",
        "Reciprocal",
        "Relu",
        "Sigmoid",
        "Sign",
        "Sqrt",
        "Tanh",
    )
)
_TWO_INPUTS = frozenset(["Add", "Div", "Max", "Min", "Mul", "Pow", "Sub", "Sum"])
_FLOATS = "f"


def apply(node: Node, inputs: Sequence[Operand | None], fixed: Sequence[bool]) -> Sequence[Operand]:
    """The outputs of a node, as many as there is a rule for.

    Args:
        node: Any node but Choose.
        inputs: Its inputs; None for one that is left out.
        fixed: Whether an input depends on the graph's constants alone.

    Raises:
        NotFitting or ExportError: No ALBERT computes this.
    """
    looked_up = _lookup(node, inputs, fixed)
    if looked_up is not None:
        return [looked_up]
    if not any(isinstance(value, Value) for value in inputs):
        return run_node(node, tuple(inputs))  # type: ignore[arg-type]
    rule = _RULES.get(node.op)
    if rule is not None:
        return [rule(node, *inputs)]
    if node.op in _MOVES:
        return _moved(node, inputs)
    raise NotFitting("no ALBERT has this operator on its hidden states")


# ---- Tables


def _lookup(node: Node, inputs: Sequence[Operand | None], fixed: Sequence[bool]) -> Value | None:
    """Rows of a table of embeddings, picked by number or as its first ones; None if the node picks none."""
    if node.op not in ("Gather", "Slice") or not fixed[0]:
        return None
    table, *numbers = inputs
    if not isinstance(table, np.ndarray) or table.ndim != 2 or table.dtype.kind != _FLOATS:
        return None
    if not all(number is None or isinstance(number, np.ndarray) for number in numbers):
        return None
    if node.op == "Slice":
        axes = numbers[2] if len(numbers) > 2 else None
        if axes is not None and np.ravel(axes).tolist() not in ([0], [-2]):
            return None
        picked = Node("Slice", (), ())
        numbers = [*numbers[:2], np.zeros(1, int), *numbers[3:]]
    elif node.attributes.get("axis", 0) in (0, -2):
        picked = Node("Gather", (), ())
    else:
        return None
    indices = run_node(picked, (np.arange(len(table)), *numbers))[0]  # type: ignore[arg-type]
    padding = node.attributes.get("padding_idx", -1)
    assert isinstance(padding, int)
    expression = Lookup(
        node, (indices.size, table.shape[1]), table, indices.ravel(), padding if padding >= 0 else None
    )
    return whole(expression, (*indices.shape, table.shape[1]), node)


def _known(value: Operand | None) -> np.ndarray | None:
    """An array; a value of a table's rows as the numbers that they are."""
    if isinstance(value, Value):
        if not isinstance(value.of, Lookup) or value.function is not None:
            raise NotFitting("it depends on words, where ALBERT has a constant")
        return np.asarray(value.of.table[value.of.indices].ravel()[value.at])
    return value


# ---- Elements moved


def _moved(node: Node, inputs: Sequence[Operand | None]) -> list[Operand]:
    value, *rest = inputs
    if not isinstance(value, Value) or any(isinstance(one, Value) for one in rest):
        raise NotFitting("where elements go depends on words")
    places = run_node(node, (value.at, *rest))  # type: ignore[arg-type]
    return [Value(value.of, one, node, value.function) for one in places]


def _cast(node: Node, value: Operand) -> Operand:
    assert isinstance(value, Value)
    if not str(node.attributes.get("dtype")).startswith("float"):
        raise NotFitting("it makes whole numbers of hidden states")
    return Value(value.of, value.at, value.node, value.function)


def _cast_like(node: Node, value: Operand, like: Operand) -> Operand:
    if isinstance(value, Value):
        return Value(value.of, value.at, value.node, value.function)
    return value.astype(np.float32)  # all hidden states are floats


def _shape(node: Node, value: Operand) -> Operand:
    # A view without memory of its own has the shape, too.
    return run_node(node, (np.broadcast_to(np.int8(0), value.shape),))[0]


def _never(node: Node, value: Operand) -> Operand:
    return np.zeros(value.shape, bool)


def _where(node: Node, condition: Operand, x: Operand, y: Operand) -> Operand:
    if isinstance(condition, Value):
        raise NotFitting("its condition depends on words")
    for chosen, all_of_it in ((x, condition.all()), (y, not condition.any())):
        if all_of_it:
            shape = np.broadcast_shapes(condition.shape, x.shape, y.shape)
            if isinstance(chosen, Value):
                return Value(chosen.of, np.broadcast_to(chosen.at, shape), node, chosen.function)
            return np.broadcast_to(chosen, shape)
    scores, other, kept = (x, y, condition) if isinstance(x, Value) else (y, x, ~condition)
    if not isinstance(scores, Value) or isinstance(other, Value):
        raise NotFitting("it mixes two hidden states")
    # Masked scores: what takes their place is as good as added to them.
    return _plus(node, scores, np.where(kept, np.float32(0), other))


# ---- Elements changed, one at a time


def _through(node: Node, value: Operand, *rest: Operand | None) -> Value:
    if not isinstance(value, Value) or any(isinstance(one, Value) for one in rest):
        raise NotFitting("its bounds depend on words")
    before = value.function or _same

    def function(x: np.ndarray) -> np.ndarray:
        return run_node(node, (before(x), *rest))[0]  # type: ignore[arg-type]

    return Value(value.of, value.at, node, function)


def _same(x: np.ndarray) -> np.ndarray:
    return x


def _binary(node: Node, x: Operand, y: Operand, *rest: Operand) -> Value:
    if rest:
        return _binary(node, _binary(node, x, y), *rest)
    if isinstance(x, Value) and isinstance(y, Value):
        return _two_values(node, x, y)
    value, known = (x, y) if isinstance(x, Value) else (y, x)
    assert isinstance(value, Value) and isinstance(known, np.ndarray)
    if node.op in ("Add", "Sum"):
        return _plus(node, value, known)
    if node.op == "Sub" and value is x:
        return _plus(node, value, -known)
    if node.op == "Mul" and known.size > 1:
        norm = value.plain()
        if isinstance(norm.of, Norm) and norm.of.weight is None and norm.of.bias is None:
            weight = _by_column(norm, known)
            if weight is not None:
                return Value(Norm(node, norm.of.shape, norm.of.x, norm.of.eps, weight), norm.at, node)
    return _with_number(node, value, known, first=value is x)


def _with_number(node: Node, value: Value, known: np.ndarray, *, first: bool) -> Value:
    """A value and one number that is known, each element by itself."""
    if known.size == 0 or np.ptp(known.astype(np.float64)) != 0:
        raise NotFitting("ALBERT has no such vector here")
    shape = np.broadcast_shapes(value.shape, known.shape)
    number, before = known.ravel()[0], value.function or _same

    def function(z: np.ndarray) -> np.ndarray:
        return run_node(node, (before(z), number) if first else (number, before(z)))[0]

    return Value(value.of, np.broadcast_to(value.at, shape), node, function)


def _plus(node: Node, value: Value, known: np.ndarray) -> Value:
    """A bias, the rows of a table that was folded into a constant, or what a mask adds to scores."""
    if known.size == 1 and known.ndim <= 1 and value.function is not None and slope(value.function) is None:
        return _with_number(node, value, known, first=True)  # a step of an activation
    base, scale = value.scaled()
    of = base.of
    if isinstance(of, Linear | Norm) and of.bias is None:
        vector = _by_column(base, known)
        if vector is not None:
            if isinstance(of, Linear):
                made: Expression = Linear(node, of.shape, of.x, of.weight, vector / scale)
                return _scaled(Value(made, base.at, node), scale)
            if scale == 1.0:
                return Value(Norm(node, of.shape, of.x, of.eps, of.weight, vector), base.at, node)
    if isinstance(of, Scores) and base.is_whole() and known.ndim > 1:
        bias = np.broadcast_to(known.astype(np.float64), base.shape).reshape(of.shape)
        bias = bias if of.bias is None else of.bias * scale + bias
        scores = Scores(node, of.shape, of.q, of.k, of.q_columns, of.k_columns, of.scale * scale, bias)
        return Value(scores, base.at, node)
    if isinstance(of, Lookup | Sum) and known.ndim > 1 and scale == 1.0:
        rows = known.reshape(-1, known.shape[-1])
        # Rows that are all alike are one token type's, others the first positions'.
        alike = len(rows) > 1 and bool((rows == rows[0]).all())
        indices = np.zeros(len(rows), int) if alike else np.arange(len(rows))
        folded = Lookup(node, rows.shape, rows[:1] if alike else rows, indices)
        return _sum(node, base, whole(folded, known.shape, node))
    return _with_number(node, value, known, first=True)


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
        before_x, before_y = x.function or _same, y.function or _same

        def function(z: np.ndarray) -> np.ndarray:
            return run_node(node, (before_x(z), before_y(z)))[0]

        return Value(x.of, x.at, node, function)
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


# ---- Rows


def _is_last(axis: Any, rank: int) -> bool:
    return isinstance(axis, int) and axis in (-1, rank - 1)


def _softmax(node: Node, value: Operand) -> Value:
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


def _layer_norm(
    node: Node, value: Operand, weight: Operand | None = None, bias: Operand | None = None
) -> Value:
    if not isinstance(value, Value) or not _is_last(node.attributes.get("axis", -1), len(value.shape)):
        raise NotFitting("LayerNorm over other axes than the last")
    eps = node.attributes.get("epsilon", 1e-5)
    assert isinstance(eps, float | int)
    vectors = [
        None if known is None else np.asarray(_known(known), np.float64).ravel() for known in (weight, bias)
    ]
    if any(vector is not None and len(vector) != value.shape[-1] for vector in vectors):
        raise NotFitting("LayerNorm has another number of weights than its rows of columns")
    rows = value.whole_rows()
    norm = Norm(node, (len(rows.rows), value.shape[-1]), rows, rounded_epsilon(float(eps)), *vectors)
    return whole(norm, value.shape, node)


def _mean(node: Node, value: Operand, axes: Operand | None = None) -> Value:
    over = np.ravel(axes).tolist() if isinstance(axes, np.ndarray) else []
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


def _matmul(node: Node, x: Operand, y: Operand) -> Value:
    # A table that multiplies, such as a decoder's, is a matrix.
    x, y = (one if isinstance(one, Value) and not _is_table(one) else _known(one) for one in (x, y))  # type: ignore[assignment]
    return matmul(node, x, y)


def _is_table(value: Value) -> bool:
    return isinstance(value.of, Lookup) and value.node.op == "Slice"


def _gemm(node: Node, x: Operand, y: Operand, bias: Operand | None = None) -> Value:
    product = _matmul(node, x, y)
    if bias is None:
        return product
    beta = node.attributes.get("beta", 1.0)
    assert isinstance(beta, float | int)
    return _plus(node, product, np.asarray(_known(bias)) * beta)


_RULES: Mapping[str, Callable[..., Operand]] = {
    **dict.fromkeys(_ONE_INPUT, _through),
    **dict.fromkeys(_TWO_INPUTS, _binary),
    "Cast": _cast,
    "CastLike": _cast_like,
    "Einsum": einsum,
    "Gemm": _gemm,
    "IsInf": _never,
    "IsNaN": _never,
    "LayerNormalization": _layer_norm,
    "MatMul": _matmul,
    "ReduceMean": _mean,
    "Shape": _shape,
    "Softmax": _softmax,
    "Where": _where,
}
