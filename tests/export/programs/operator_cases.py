"""Inputs and attributes for every operator that ONNX has."""

import math

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, mutually_broadcastable_shapes

SHAPES = array_shapes(max_dims=4, max_side=4)


def floats(low=-3.0, high=3.0):
    return st.floats(low, high, width=32).map(lambda number: np.float32(round(number, 3)))


def values(shape, dtype=np.float32, elements=None):
    if elements is None:
        elements = {"f": floats(), "i": st.integers(-5, 5), "b": st.booleans()}[np.dtype(dtype).kind]
    return arrays(dtype, shape, elements=elements)


@st.composite
def one(draw, dtype=np.float32, elements=None, **attributes):
    """One array."""
    return [draw(values(draw(SHAPES), dtype, elements))], attributes


@st.composite
def two(draw, dtype=np.float32, elements=None, second=None):
    """Two arrays that broadcast."""
    both = mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3)
    left, right = draw(both).input_shapes
    second = elements if second is None else second
    return [draw(values(left, dtype, elements)), draw(values(right, dtype, second))], {}


@st.composite
def many(draw):
    shapes = draw(mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3)).input_shapes
    return [draw(values(shape)) for shape in shapes], {}


@st.composite
def with_axis(draw, lowest=0, **attributes):
    """One array and one of its axes, which may be counted from behind."""
    x = draw(values(draw(SHAPES)))
    return [x], {"axis": draw(st.integers(-x.ndim, x.ndim - 1 + lowest)), **attributes}


def axes_of(x, **limits):
    return st.lists(st.integers(0, x.ndim - 1), unique=True, **limits).flatmap(
        lambda axes: st.tuples(*(st.sampled_from([axis, axis - x.ndim]) for axis in axes)).map(list)
    )


def whole(numbers):
    return np.array(numbers, np.int64)


@st.composite
def reduced(draw):
    x = draw(values(draw(SHAPES)))
    attributes = {"keepdims": draw(st.integers(0, 1)), "noop_with_empty_axes": draw(st.integers(0, 1))}
    axes = draw(st.none() | axes_of(x))
    return [x] if axes is None else [x, whole(axes)], attributes


@st.composite
def product(draw):
    signature = "(m?,n),(n,p?)->(m?,p?)"
    both = mutually_broadcastable_shapes(signature=signature, max_dims=2, max_side=4)
    return [draw(values(shape)) for shape in draw(both).input_shapes], {}


@st.composite
def gemm(draw):
    m, k, n = (draw(st.integers(1, 4)) for _ in range(3))
    attributes = {
        "transA": draw(st.integers(0, 1)),
        "transB": draw(st.integers(0, 1)),
        "alpha": float(draw(floats())),
        "beta": float(draw(floats())),
    }
    x = draw(values((k, m) if attributes["transA"] else (m, k)))
    y = draw(values((n, k) if attributes["transB"] else (k, n)))
    bias = draw(st.none() | st.sampled_from([(), (n,), (1, n), (m, 1), (m, n)]).flatmap(values))
    return [x, y] if bias is None else [x, y, bias], attributes


@st.composite
def normed(draw):
    (x,), attributes = draw(with_axis(epsilon=0.01))
    shape = x.shape[attributes["axis"] % x.ndim :]
    bias = [draw(values(shape))] if draw(st.booleans()) else []
    return [x, draw(values(shape)), *bias], attributes


@st.composite
def clipped(draw):
    limits = [np.float32(-0.5), np.float32(1.25)]
    return [draw(values(draw(SHAPES))), *limits[: draw(st.integers(0, 2))]], {}


@st.composite
def argmax(draw):
    (x,), attributes = draw(with_axis())
    return [x], {**attributes, "keepdims": draw(st.integers(0, 1))}


@st.composite
def cumsum(draw):
    (x,), attributes = draw(with_axis())
    return [x, whole(attributes["axis"])], {}


@st.composite
def part_of_shape(draw):
    x = draw(values(draw(SHAPES)))
    ends = st.integers(-x.ndim - 1, x.ndim + 1)
    attributes = {"start": draw(ends), "end": draw(st.none() | ends)}
    return [x], {name: value for name, value in attributes.items() if value is not None}


@st.composite
def reshaped(draw):
    x = draw(values(draw(SHAPES)))
    kept = draw(st.integers(0, x.ndim - 1))
    return [x, whole([0] * kept + draw(st.sampled_from([[-1], [-1, 1], [1, -1]])))], {}


@st.composite
def transposed(draw):
    x = draw(values(draw(SHAPES)))
    perm = draw(st.none() | st.permutations(range(x.ndim)))
    return [x], {} if perm is None else {"perm": perm}


@st.composite
def squeezed(draw):
    x = draw(values(draw(array_shapes(max_dims=5, max_side=2))))
    ones = [axis for axis, size in enumerate(x.shape) if size == 1]
    if not ones or draw(st.booleans()):
        return [x], {}
    picked = draw(st.lists(st.sampled_from(ones), unique=True, min_size=1))
    return [x, whole([draw(st.sampled_from([axis, axis - x.ndim])) for axis in picked])], {}


@st.composite
def unsqueezed(draw):
    x = draw(values(draw(SHAPES)))
    rank = x.ndim + draw(st.integers(1, 2))
    axes = draw(st.permutations(range(rank)))[x.ndim :]
    return [x, whole([draw(st.sampled_from([axis, axis - rank])) for axis in axes])], {}


@st.composite
def expanded(draw):
    both = mutually_broadcastable_shapes(num_shapes=2, min_dims=1, max_dims=3, max_side=4)
    shape, other = draw(both).input_shapes
    return [draw(values(shape)), whole(other)], {}


@st.composite
def tiled(draw):
    x = draw(values(draw(SHAPES)))
    return [x, whole([draw(st.integers(1, 3)) for _ in x.shape])], {}


@st.composite
def concatenated(draw):
    (x,), attributes = draw(with_axis())
    shape = list(x.shape)
    shape[attributes["axis"]] = draw(st.integers(1, 3))
    return [x, draw(values(tuple(shape)))], attributes


@st.composite
def split(draw):
    (x,), attributes = draw(with_axis())
    size = x.shape[attributes["axis"]]
    if draw(st.booleans()):
        first = draw(st.integers(0, size))
        return [x, whole([first, size - first])], attributes, 2
    fitting = [parts for parts in range(1, size + 1) if -(-size // parts) * (parts - 1) < size]
    parts = draw(st.sampled_from(fitting))
    return [x], {**attributes, "num_outputs": parts}, parts


@st.composite
def sliced(draw):
    x = draw(values(draw(SHAPES)))
    axes = draw(axes_of(x, min_size=1))
    steps = [draw(st.sampled_from([-2, -1, 1, 2])) for _ in axes]
    starts = [draw(st.integers(-6, 6)) for _ in axes]
    # To the very end is written so, to the very start as far below 0.
    ends = [draw(st.integers(-6, 6) | st.sampled_from([2**31 - 1, 2**63 - 1])) for _ in axes]
    ends = [-end if step < 0 and end > 6 else end for step, end in zip(steps, ends, strict=True)]
    return [x, whole(starts), whole(ends), whole(axes), whole(steps)], {}


@st.composite
def sliced_forward(draw):
    x = draw(values(draw(SHAPES)))
    count = draw(st.integers(1, x.ndim))
    starts, ends = ([draw(st.integers(-6, 6)) for _ in range(count)] for _ in range(2))
    return [x, whole(starts), whole(ends)], {}


@st.composite
def gathered(draw):
    (x,), attributes = draw(with_axis())
    size = x.shape[attributes["axis"]]
    shape = draw(array_shapes(min_dims=0, max_dims=2, max_side=3))
    return [x, draw(values(shape, np.int64, st.integers(-size, size - 1)))], attributes


@st.composite
def gathered_elements(draw):
    (x,), attributes = draw(with_axis())
    size = x.shape[attributes["axis"]]
    shape = list(x.shape)
    shape[attributes["axis"]] = draw(st.integers(1, 3))
    return [x, draw(values(tuple(shape), np.int64, st.integers(-size, size - 1)))], attributes


@st.composite
def gathered_nd(draw):
    x = draw(values(draw(SHAPES)))
    depth, rows = draw(st.integers(1, x.ndim)), draw(st.integers(1, 3))
    picked = [[draw(st.integers(-size, size - 1)) for size in x.shape[:depth]] for _ in range(rows)]
    return [x, whole(picked)], {}


@st.composite
def chosen(draw):
    shapes = draw(mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3)).input_shapes
    condition, left, right = shapes
    return [draw(values(condition, bool)), draw(values(left)), draw(values(right))], {}


@st.composite
def ranged(draw):
    step = draw(st.sampled_from([-3, -1, 1, 2]))
    return [whole(draw(st.integers(-9, 9))), whole(draw(st.integers(-9, 9))), whole(step)], {}


@st.composite
def triangle(draw):
    x = draw(values(draw(array_shapes(min_dims=2, max_dims=3, max_side=4))))
    return [x, whole(draw(st.integers(-5, 5)))][: draw(st.integers(1, 2))], {"upper": draw(st.integers(0, 1))}


@st.composite
def filled(draw):
    value = draw(st.sampled_from([np.float32([2.5]), np.int64([-7]), np.array([True])]))
    return [whole(draw(SHAPES))], {"value": value}


@st.composite
def cast(draw):
    x = draw(st.one_of(values(draw(SHAPES), dtype) for dtype in (np.float32, np.int64, bool)))
    return [x], {"dtype": draw(st.sampled_from(["float32", "float16", "int64", "int32", "bool"]))}


POSITIVE = floats(0.125, 3.0)
NOT_ZERO = st.sampled_from([-3, -2, -1, 1, 2, 3])
WITH_SPECIALS = st.sampled_from([np.float32(number) for number in (0.0, 1.5, math.inf, -math.inf, math.nan)])

CASES = {
    **dict.fromkeys(["Abs", "Ceil", "Cos", "Erf", "Exp", "Floor", "Neg", "Relu"], one()),
    **dict.fromkeys(["Sigmoid", "Sign", "Sin", "Tanh", "Identity", "Dropout", "Size"], one()),
    **dict.fromkeys(["Add", "Sub", "Mul", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"], two()),
    **dict.fromkeys(["And", "Or", "Xor"], two(bool)),
    **dict.fromkeys(["Max", "Min", "Sum"], many()),
    **dict.fromkeys(["ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"], reduced()),
    **dict.fromkeys(["IsInf", "IsNaN"], one(elements=WITH_SPECIALS)),
    **dict.fromkeys(["Log", "Reciprocal", "Sqrt"], one(elements=POSITIVE)),
    **dict.fromkeys(["LogSoftmax", "Softmax"], with_axis()),
    "ArgMax": argmax(),
    "Cast": cast(),
    "CastLike": two(),
    "Clip": clipped(),
    "Concat": concatenated(),
    "ConstantOfShape": filled(),
    "CumSum": cumsum(),
    "Div": two(second=POSITIVE) | two(np.int64, second=NOT_ZERO),
    "Equal": two(np.int64),
    "Expand": expanded(),
    "Flatten": with_axis(lowest=1),
    "Gather": gathered(),
    "GatherElements": gathered_elements(),
    "GatherND": gathered_nd(),
    "Gelu": one() | one(approximate="tanh"),
    "Gemm": gemm(),
    "LayerNormalization": normed(),
    "MatMul": product(),
    "Mod": two(np.int64, second=NOT_ZERO),
    "Not": one(bool),
    "Pow": two(elements=POSITIVE),
    "Range": ranged(),
    "Reshape": reshaped(),
    "Shape": part_of_shape(),
    "Slice": sliced() | sliced_forward(),
    "Split": split(),
    "Squeeze": squeezed(),
    "Tile": tiled(),
    "Transpose": transposed(),
    "Trilu": triangle(),
    "Unsqueeze": unsqueezed(),
    "Where": chosen(),
}
