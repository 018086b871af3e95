"""What a program computes from its word ids, as expressions: sums, linear maps, attention, in any disguise.

Exporters write one computation in many ways. Here it has one form: whatever moves elements only (reshape,
transpose, slice) is kept as the places where a value's elements lie in the expression that made them, and
whatever changes one element at a time as one function, which is told by its values. So an expression is the
same whichever operators it was written with.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .graph import Node
from .operators import MAX_ELEMENTS, run_node

Function = Callable[[np.ndarray], np.ndarray]
# Of one function, those of what it is used for twice counted twice.
_MAX_STEPS = 100


class NotFitting(Exception):
    """A node computes what no ALBERT does; the text says what. ``node``: another than the one at hand."""

    def __init__(self, why: str, node: Node | None = None) -> None:
        super().__init__(why)
        self.node = node


@dataclass(eq=False)
class Expression:
    """Rows [R, C] of numbers, but for attention's scores, [B, heads, T, T]. ``node`` completed it."""

    node: Node
    shape: tuple[int, ...]


@dataclass(eq=False)
class Rows:
    """Rows of an expression, each as a whole: number ``rows[i]`` of it comes i-th."""

    of: Expression
    rows: np.ndarray

    @property
    def all(self) -> bool:
        """Whether they are all rows, in their order."""
        return bool(np.array_equal(self.rows, np.arange(self.of.shape[0])))


@dataclass(eq=False)
class Lookup(Expression):
    """The rows ``indices`` (flat) of a table; that of ``padding_idx`` is zeros."""

    table: np.ndarray
    indices: np.ndarray
    padding_idx: int | None = None


@dataclass(eq=False)
class Sum(Expression):
    """Two expressions added, row by row."""

    x: Rows
    y: Rows


@dataclass(eq=False)
class Linear(Expression):
    """x @ weight [K, C] + bias [C]."""

    x: Rows
    weight: np.ndarray
    bias: np.ndarray | None = None


@dataclass(eq=False)
class Norm(Expression):
    """LayerNorm of each row, times weight [C], plus bias [C]."""

    x: Rows
    eps: float
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None


@dataclass(eq=False)
class Mean(Expression):
    """The mean of each row, [R, 1]."""

    x: Expression


@dataclass(eq=False)
class Centered(Expression):
    """Each row less its mean."""

    x: Expression


@dataclass(eq=False)
class Variance(Expression):
    """The mean of each row's squared differences from its mean, [R, 1]."""

    x: Expression


@dataclass(eq=False)
class Activation(Expression):
    """A function of each element: gelu (erf), gelu_new (tanh), relu, tanh or sigmoid."""

    x: Expression
    name: str


@dataclass(eq=False)
class Softmax(Expression):
    """Softmax of each row that is no row of scores."""

    x: Expression


@dataclass(eq=False)
class Scores(Expression):
    """q @ k.T * scale + bias by head [B, heads, T, T].

    ``q_columns`` and ``k_columns`` [heads, d]: which columns of ``q`` and ``k`` are whose.
    """

    q: Expression
    k: Expression
    q_columns: np.ndarray
    k_columns: np.ndarray
    scale: float
    bias: np.ndarray | None = None


@dataclass(eq=False)
class Probabilities(Expression):
    """Softmax of scores over the keys, [B, heads, T, T]."""

    scores: Scores


@dataclass(eq=False)
class Context(Expression):
    """Probabilities @ v by head, the heads' columns side by side: [B * T, heads * d]."""

    probabilities: Probabilities
    v: Expression
    v_columns: np.ndarray


class Composed:
    """A function of one element after others: ``step`` of what each of ``before`` gives, None the element.

    Raises NotFitting if there are more steps in all than activations have.
    """

    def __init__(self, step: Callable[..., np.ndarray], *before: Function | None) -> None:
        self.step, self.before = step, before
        self.steps: int = 1 + sum(one.steps if isinstance(one, Composed) else 1 for one in before)
        if self.steps > _MAX_STEPS:
            raise NotFitting("no activation has so many steps")

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.step(*[x if one is None else one(x) for one in self.before])


@dataclass(eq=False)
class Value:
    """A value of the program: the elements of ``of`` at the flat places ``at``, each through ``function``.

    ``at`` has the value's shape. ``function`` takes and gives arrays, element by element; None leaves them as
    they are. ``node`` made the value.
    """

    of: Expression
    at: np.ndarray
    node: Node
    function: Function | None = None
    _plain: "Value | None" = field(default=None, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """The value's shape."""
        return self.at.shape

    def scaled(self) -> tuple["Value", float]:
        """The same value as one without function, and the number to multiply that by.

        Raises NotFitting if the function is no activation of ours.
        """
        if self.function is None:
            return self, 1.0
        scale = slope(self.function)
        if scale is not None:
            return Value(self.of, self.at, self.node), scale
        if self._plain is None:
            name = activation(self.function)
            if name is None:
                raise NotFitting("its function is no gelu, gelu_new, relu, tanh or sigmoid", self.node)
            self._plain = Value(Activation(self.node, self.of.shape, self.of, name), self.at, self.node)
        return self._plain, 1.0

    def plain(self) -> "Value":
        """The same value as one without function; NotFitting if there is none, or a factor is left."""
        value, scale = self.scaled()
        if abs(scale - 1) > 1e-6:
            raise NotFitting(f"a factor of {scale:.6g} comes into it", self.node)
        return value

    def whole_rows(self) -> Rows:
        """The rows that the value consists of; NotFitting if it is made of parts of rows, or is scaled."""
        value = self.plain()
        columns = value.of.shape[-1]
        if len(value.of.shape) == 2 and value.at.size and value.at.shape[-1:] == (columns,):
            places = value.at.reshape(-1, columns)
            rows = places[:, 0] // columns
            if np.array_equal(places, rows[:, None] * columns + np.arange(columns)):
                return Rows(value.of, rows)
        raise NotFitting("it takes its input in another order, or only parts of it")

    def is_whole(self) -> bool:
        """Whether the value is its expression, all of it in its order."""
        return self.at.size == int(np.prod(self.of.shape)) and bool(
            np.array_equal(self.at.ravel(), np.arange(self.at.size))
        )


def whole(of: Expression, shape: tuple[int, ...], node: Node) -> Value:
    """The value that is all of an expression, in its order, in ``shape``; NotFitting if that is too large."""
    size = math.prod(shape)
    if size > MAX_ELEMENTS:
        raise NotFitting(f"a result of shape {list(shape)} is too large")
    return Value(of, np.arange(size, dtype=np.int32).reshape(shape), node)


def number_of(node: Node, attribute: str, default: float) -> float:
    """An attribute that is a number; NotFitting if it is something else."""
    value = node.attributes.get(attribute, default)
    if not isinstance(value, int | float):
        raise NotFitting(f"its {attribute} is no number")
    return float(value)


def known_array(value: "np.ndarray | Value | None") -> np.ndarray | None:
    """An array; a value of a table's rows as the numbers that they are."""
    if isinstance(value, Value):
        if not isinstance(value.of, Lookup) or value.function is not None:
            raise NotFitting("it depends on words, where ALBERT has a constant")
        return np.asarray(value.of.table[value.of.indices].ravel()[value.at])
    return value


# ---- Functions of one number, told by their values

_PLACES = np.array(
    [
        -1e4,
        -1e3,
        -30.0,
        -12.0,
        -8.0,
        -6.0,
        -3.5,
        -2.0,
        -1.0,
        -0.6,
        -0.25,
        -0.05,
        0.05,
        0.3,
        0.5,
        0.8,
        1.0,
        1.7,
        2.5,
        4.0,
        6.0,
        8.0,
        12.0,
        30.0,
        1e3,
        1e4,
    ]
)
# Constants may have been rounded to 16 bits. The two forms of gelu differ by up to 5e-4.
_CLOSE = 5e-5


def slope(function: Function) -> float | None:
    """The factor, of a function that multiplies by one that is not 0; None for any other."""
    values = function(_PLACES) / _PLACES
    factor = float(values[0])
    return factor if factor and np.isfinite(values).all() and np.ptp(values) <= 1e-9 * abs(factor) else None


def activation(function: Function) -> str | None:
    """The name of an activation; None for any other function."""
    values = function(_PLACES)
    for name, known in _ACTIVATIONS.items():
        if (np.abs(values - known) <= _CLOSE * np.maximum(1, np.abs(known))).all():
            return name
    return None


def is_square(function: Function | None) -> bool:
    """Whether the function is x * x."""
    return function is not None and bool(np.allclose(function(_PLACES), _PLACES**2, rtol=1e-9))


def root_epsilon(function: Function, *, inverse: bool) -> float | None:
    """The epsilon of sqrt(x + epsilon), or of 1 / sqrt(x + epsilon); None for any other function."""
    places = np.array([0.0, 1e-3, 0.1, 1.0, 7.0, 40.0])
    values = function(places)
    if inverse:
        with np.errstate(all="ignore"):
            values = 1 / values
    epsilon = float(values[0] ** 2)
    if not (np.isfinite(values).all() and np.allclose(values, np.sqrt(places + epsilon), rtol=1e-6)):
        return None
    return rounded_epsilon(epsilon)


def rounded_epsilon(epsilon: float) -> float:
    """The number that was meant, where float32 stored it."""
    return float(f"{epsilon:.6g}")


def _activations() -> dict[str, np.ndarray]:
    def values(op: str, **attributes: str) -> np.ndarray:
        return run_node(Node(op, ("x",), ("y",), attributes), (_PLACES,))[0]

    return {
        "gelu": values("Gelu"),
        "gelu_new": values("Gelu", approximate="tanh"),
        "relu": values("Relu"),
        "tanh": values("Tanh"),
        "sigmoid": values("Sigmoid"),
    }


_ACTIVATIONS = _activations()
