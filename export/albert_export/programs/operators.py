"""What the operators of a graph compute, on numpy arrays: ONNX's operators as of opset 18.

They compute what of a program depends on shapes, masks and constants alone, so they need not be fast. Sizes
are those of an unknown file: a result that could not be part of an ALBERT's program is refused before it is
made.

Where ONNX's older opsets have an attribute for what is an input now (axes, starts, ends, split), readers make
it an input. MatMul has the attributes alpha, transA and transB of ONNX Runtime's FusedMatMul. Gather has
padding_idx, the row that Paddle looks up as zeros; Squeeze only_ones, for which it leaves dimensions that are
not 1, as Paddle does. ScoreMask and AdditiveMask are ours, of fused attention.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..errors import ExportError
from .graph import Node

Arrays = tuple[np.ndarray, ...]
Attributes = Mapping[str, Any]
# What numpy makes of inputs and attributes that do not fit an operator.
NOT_FITTING_IT = (
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    ArithmeticError,
    MemoryError,
    AttributeError,
)
MAX_ELEMENTS = 1 << 28
_SQRT_HALF = math.sqrt(0.5)
_erf_of_one = np.vectorize(math.erf, otypes=[float])


def run_node(node: Node, values: tuple[np.ndarray | None, ...]) -> Arrays:
    """The outputs of one node, given its inputs; None for one that is left out.

    Raises ExportError if the operator is unknown, or cannot be computed on these values.
    """
    operator = OPERATORS.get(node.op)
    if operator is None:
        raise ExportError("this operator is none of an ALBERT's")
    try:
        with np.errstate(all="ignore"):
            result = operator(node.attributes, *values)
    except NOT_FITTING_IT as error:
        raise ExportError(f"its inputs do not fit it ({error})") from None
    return result if isinstance(result, tuple) else (np.asarray(result),)


def _bounded(*shape: int) -> tuple[int, ...]:
    if any(size < 0 for size in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise ValueError(f"a result of shape {list(shape)} is too large")
    return shape


def _ints(values: np.ndarray | None) -> tuple[int, ...] | None:
    return None if values is None else tuple(int(value) for value in np.ravel(values))


# ---- One element at a time


def _elementwise(function: Callable[..., Any]) -> Callable[..., Any]:
    def operator(attributes: Attributes, *values: np.ndarray) -> np.ndarray:
        _bounded(*np.broadcast_shapes(*(np.shape(value) for value in values)))
        return np.asarray(function(*values))

    return operator


def _divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if np.issubdtype(np.result_type(x, y), np.integer):
        if np.any(y == 0):
            raise ValueError("division by zero")
        return np.asarray(np.trunc(np.divide(x, y)), np.result_type(x, y))
    return np.asarray(np.divide(x, y))


def _cast(attributes: Attributes, x: np.ndarray) -> np.ndarray:
    return x.astype(attributes["dtype"])


def _clip(attributes: Attributes, x: np.ndarray, low: Any = None, high: Any = None) -> np.ndarray:
    return x if low is None and high is None else np.clip(x, low, high)


def _erf(x: np.ndarray) -> np.ndarray:
    return np.asarray(_erf_of_one(x), x.dtype)


def _gelu(attributes: Attributes, x: np.ndarray) -> np.ndarray:
    if attributes.get("approximate", "none") == "tanh":
        inner = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    else:
        inner = _erf(x * _SQRT_HALF)
    return np.asarray(0.5 * x * (1 + inner))


# ---- Rows of elements


def _matmul(attributes: Attributes, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x = np.swapaxes(x, -1, -2) if attributes.get("transA") else x
    y = np.swapaxes(y, -1, -2) if attributes.get("transB") else y
    rows = x.shape[-2] if x.ndim > 1 else 1
    _bounded(*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), rows, y.shape[-1] if y.ndim > 1 else 1)
    return np.asarray(np.matmul(x, y) * np.asarray(attributes.get("alpha", 1.0), x.dtype))


def _gemm(attributes: Attributes, x: np.ndarray, y: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    product = _matmul(attributes, x, y)
    return product if bias is None else product + attributes.get("beta", 1.0) * bias


def _softmax(attributes: Attributes, x: np.ndarray) -> np.ndarray:
    axis = attributes.get("axis", -1)
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def _layer_norm(
    attributes: Attributes, x: np.ndarray, weight: np.ndarray | None = None, bias: np.ndarray | None = None
) -> np.ndarray:
    axis = attributes.get("axis", -1)
    axes = tuple(range(axis % x.ndim, x.ndim))
    centered = x - x.mean(axes, keepdims=True)
    variance = (centered**2).mean(axes, keepdims=True)
    result = centered / np.sqrt(variance + attributes.get("epsilon", 1e-5))
    result = result if weight is None else result * weight
    return np.asarray(result if bias is None else result + bias)


def _reduce(function: Callable[..., Any]) -> Callable[..., Any]:
    def operator(attributes: Attributes, x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
        over = _ints(axes)
        if not over:
            if attributes.get("noop_with_empty_axes"):
                return x
            over = tuple(range(x.ndim))
        return np.asarray(function(x, axis=over, keepdims=bool(attributes.get("keepdims", 1))))

    return operator


def _argmax(attributes: Attributes, x: np.ndarray) -> np.ndarray:
    axis = attributes.get("axis", 0)
    result = np.argmax(x, axis)
    return np.asarray(np.expand_dims(result, axis) if attributes.get("keepdims", 1) else result)


def _cumsum(attributes: Attributes, x: np.ndarray, axis: np.ndarray) -> np.ndarray:
    if attributes.get("exclusive") or attributes.get("reverse"):
        raise ValueError("exclusive or reverse sums")
    return np.cumsum(x, int(axis), dtype=x.dtype)


# ---- Shapes


def _shape(attributes: Attributes, x: np.ndarray) -> np.ndarray:
    return np.array(x.shape[attributes.get("start", 0) : attributes.get("end")], np.int64)


def _reshape(attributes: Attributes, x: np.ndarray, shape: np.ndarray) -> np.ndarray:
    sizes = list(_ints(shape) or ())
    if not attributes.get("allowzero"):
        sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return x.reshape(sizes)


def _transpose(attributes: Attributes, x: np.ndarray) -> np.ndarray:
    return np.transpose(x, attributes.get("perm"))


def _flatten(attributes: Attributes, x: np.ndarray) -> np.ndarray:
    axis = attributes.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), -1)


def _squeeze(attributes: Attributes, x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
    dropped = _ints(axes)
    if dropped is not None and attributes.get("only_ones"):
        dropped = tuple(axis for axis in dropped if x.shape[axis] == 1)
    return np.squeeze(x, dropped)


def _unsqueeze(attributes: Attributes, x: np.ndarray, axes: np.ndarray) -> np.ndarray:
    return np.expand_dims(x, _ints(axes) or ())


def _expand(attributes: Attributes, x: np.ndarray, shape: np.ndarray) -> np.ndarray:
    sizes = np.broadcast_shapes(x.shape, _ints(shape) or ())
    return np.broadcast_to(x, _bounded(*sizes))


def _tile(attributes: Attributes, x: np.ndarray, repeats: np.ndarray) -> np.ndarray:
    times = _ints(repeats) or ()
    _bounded(*(size * time for size, time in zip(x.shape, times, strict=True)))
    return np.tile(x, times)


def _concat(attributes: Attributes, *values: np.ndarray) -> np.ndarray:
    return np.concatenate(values, attributes["axis"])


def _split(attributes: Attributes, x: np.ndarray, sizes: np.ndarray | None = None) -> Arrays:
    axis = attributes.get("axis", 0)
    whole, lengths = x.shape[axis], _ints(sizes)
    if lengths is None:
        count = int(attributes["num_outputs"])
        if not 0 < count <= whole:
            raise ValueError(f"{count} pieces of {whole}")
        size = -(-whole // count)
        return tuple(np.split(x, range(size, size * count, size), axis))
    if not lengths or min(lengths) < 0 or sum(lengths) != whole:
        raise ValueError(f"sizes {list(lengths)} for {whole}")
    return tuple(np.split(x, list(itertools.accumulate(lengths))[:-1], axis))


def _slice(
    attributes: Attributes,
    x: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    axes: np.ndarray | None = None,
    steps: np.ndarray | None = None,
) -> np.ndarray:
    first, last = _ints(starts) or (), _ints(ends) or ()
    along = _ints(axes) if axes is not None else tuple(range(len(first)))
    by = _ints(steps) if steps is not None else (1,) * len(first)
    pieces = [slice(None)] * x.ndim
    for axis, start, end, step in zip(along or (), first, last, by or (), strict=True):
        if step < 0:
            # Backwards numpy would start before the first element, and count -1 from the end.
            stop = None if end < -x.shape[axis] else end
            pieces[axis] = slice(max(start, -x.shape[axis]), stop, step)
        else:
            pieces[axis] = slice(start, end, step)
    return x[tuple(pieces)]


# ---- Picking and making


def _gather(attributes: Attributes, x: np.ndarray, indices: np.ndarray) -> np.ndarray:
    axis = attributes.get("axis", 0)
    _bounded(*x.shape[:axis], *indices.shape, *x.shape[axis:][1:])
    taken = np.take(x, indices, axis)
    pad = attributes.get("padding_idx", -1)
    if pad >= 0:
        taken = np.where((indices == pad)[..., None], np.zeros((), x.dtype), taken)
    return taken


def _gather_elements(attributes: Attributes, x: np.ndarray, indices: np.ndarray) -> np.ndarray:
    return np.take_along_axis(x, indices, attributes.get("axis", 0))


def _gather_nd(attributes: Attributes, x: np.ndarray, indices: np.ndarray) -> np.ndarray:
    if attributes.get("batch_dims"):
        raise ValueError("batch_dims")
    _bounded(*indices.shape[:-1], *x.shape[indices.shape[-1] :])
    return np.asarray(x[tuple(np.moveaxis(indices, -1, 0))])


def _where(attributes: Attributes, condition: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    _bounded(*np.broadcast_shapes(condition.shape, x.shape, y.shape))
    return np.where(condition, x, y)


def _constant_of_shape(attributes: Attributes, shape: np.ndarray) -> np.ndarray:
    value = np.ravel(attributes.get("value", np.zeros(1, np.float32)))[:1]
    return np.broadcast_to(value, _bounded(*(_ints(shape) or ())))


def _range(attributes: Attributes, start: Any, limit: Any, step: Any) -> np.ndarray:
    low, high, by = (np.ravel(value)[0].item() for value in (start, limit, step))
    count = max(0, math.ceil((high - low) / by))
    _bounded(count)
    return np.asarray(low + by * np.arange(count, dtype=np.asarray(start).dtype))


def _trilu(attributes: Attributes, x: np.ndarray, k: np.ndarray | None = None) -> np.ndarray:
    diagonal = 0 if k is None else int(k)
    return np.triu(x, diagonal) if attributes.get("upper", 1) else np.tril(x, diagonal)


def _score_mask(attributes: Attributes, mask: np.ndarray, length: np.ndarray) -> np.ndarray:
    """What a mask [B, T], or rows' lengths [B], add to attention's scores [B, heads, T, T]."""
    kept = mask
    if mask.ndim != 2:
        _bounded(len(mask), int(length))
        kept = np.arange(int(length)) < mask[:, None]
    return np.where(kept, np.float32(0), np.float32(attributes["filtered"]))[:, None, None]


def _additive_mask(attributes: Attributes, mask: np.ndarray) -> np.ndarray:
    """A mask that is added: as it is, or of booleans, -inf where they are false."""
    return np.where(mask, np.float32(0), np.float32(-np.inf)) if mask.dtype == bool else mask


def _identity(attributes: Attributes, x: np.ndarray, *rest: np.ndarray) -> np.ndarray:
    return x


_ELEMENTWISE: Mapping[str, Callable[..., Any]] = {
    "Abs": np.abs,
    "Add": np.add,
    "And": np.logical_and,
    "Ceil": np.ceil,
    "Cos": np.cos,
    "Div": _divide,
    "Equal": np.equal,
    "Erf": _erf,
    "Exp": np.exp,
    "Floor": np.floor,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "IsInf": np.isinf,
    "IsNaN": np.isnan,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Log": np.log,
    "Mod": np.mod,
    "Mul": np.multiply,
    "Neg": np.negative,
    "Not": np.logical_not,
    "Or": np.logical_or,
    "Pow": np.power,
    "Reciprocal": np.reciprocal,
    "Relu": lambda x: np.maximum(x, np.zeros((), x.dtype)),
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Sign": np.sign,
    "Sin": np.sin,
    "Sqrt": np.sqrt,
    "Sub": np.subtract,
    "Tanh": np.tanh,
    "Xor": np.logical_xor,
    "Max": lambda *values: np.asarray(_fold(np.maximum, values)),
    "Min": lambda *values: np.asarray(_fold(np.minimum, values)),
    "Sum": lambda *values: np.asarray(_fold(np.add, values)),
}
OPERATORS: Mapping[str, Callable[..., Any]] = {
    **{name: _elementwise(function) for name, function in _ELEMENTWISE.items()},
    "Cast": _cast,
    "Clip": _clip,
    "Gelu": _gelu,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Softmax": _softmax,
    "LogSoftmax": lambda attributes, x: np.log(_softmax(attributes, x)),
    "LayerNormalization": _layer_norm,
    "ReduceMean": _reduce(np.mean),
    "ReduceSum": _reduce(np.sum),
    "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min),
    "ReduceProd": _reduce(np.prod),
    "ArgMax": _argmax,
    "CumSum": _cumsum,
    "Shape": _shape,
    "Size": lambda attributes, x: np.asarray(x.size),
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Expand": _expand,
    "Tile": _tile,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Where": _where,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "Trilu": _trilu,
    "Identity": _identity,
    "Dropout": _identity,
    "CastLike": lambda attributes, x, like: x.astype(like.dtype),
    "ScoreMask": _score_mask,
    "AdditiveMask": _additive_mask,
}


def _fold(function: Callable[..., Any], values: Arrays) -> np.ndarray:
    result, *rest = values
    for value in rest:
        result = function(result, value)
    return result
