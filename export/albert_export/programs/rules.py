"""What each operator makes of expressions: the rules by which a program's nodes become ALBERT's parts."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .elementwise import Operand, binary, through, where
from .expressions import Lookup, NotFitting, Value, number_of, whole
from .graph import Node
from .operators import run_node
from .pooling import greatest_of_rows, joined, length_of_rows, sum_of_rows
from .products import einsum
from .rowwise import gemm, layer_norm, matmul_of, mean, softmax

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
        if isinstance(axes, np.ndarray) and axes.ravel().tolist() not in ([0], [-2]):
            return None
        picked = Node("Slice", (), ())
        numbers = [*numbers[:2], np.zeros(1, int), *numbers[3:]]
    elif node.attributes.get("axis", 0) in (0, -2):
        picked = Node("Gather", (), ())
    else:
        return None
    indices = run_node(picked, (np.arange(len(table)), *numbers))[0]  # type: ignore[arg-type]
    padding = int(number_of(node, "padding_idx", -1))
    expression = Lookup(
        node, (indices.size, table.shape[1]), table, indices.ravel(), padding if padding >= 0 else None
    )
    return whole(expression, (*indices.shape, table.shape[1]), node)


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


_RULES: Mapping[str, Callable[..., Operand]] = {
    **dict.fromkeys(_ONE_INPUT, through),
    **dict.fromkeys(_TWO_INPUTS, binary),
    "Cast": _cast,
    "CastLike": _cast_like,
    "Einsum": einsum,
    "Gemm": gemm,
    "Concat": joined,
    "IsInf": _never,
    "IsNaN": _never,
    "LayerNormalization": layer_norm,
    "MatMul": matmul_of,
    "ReduceL2": length_of_rows,
    "ReduceMax": greatest_of_rows,
    "ReduceMean": mean,
    "ReduceSum": sum_of_rows,
    "Shape": _shape,
    "Softmax": softmax,
    "Where": where,
}
