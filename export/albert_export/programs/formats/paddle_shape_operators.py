"""Paddle's operators that arrange, pick and make values, in ONNX's."""

import math
from collections.abc import Callable, Mapping

import numpy as np

from .paddle_operation import Translation, Untranslatable

# The most elements of an array that a file may ask for.
_MAX_FILLED = 1 << 28


# ---- Shapes


def _shape(t: Translation) -> None:
    x = t.value("input")
    if t.dtype(t.outputs[0]) == "int32":
        t.give("Cast", t.node("Shape", x), dtype="int32")
    else:
        t.give("Shape", x)


def _size(t: Translation) -> None:
    t.give("Size", t.value("x"))


def _reshape(t: Translation) -> None:
    t.give("Reshape", t.value("x"), t.sizes("shape"))


def _transpose(t: Translation) -> None:
    t.give("Transpose", t.value("x"), perm=t.integers("perm"))


def _squeeze(t: Translation) -> None:
    x, axes = t.value("x"), t.integers("axis", ())
    shape = t.shape(x)
    if not all(-len(shape) <= axis < len(shape) for axis in axes):
        raise Untranslatable
    if not axes:
        t.give("Squeeze", x)
    elif all(shape[axis] == 1 for axis in axes):
        t.give("Squeeze", x, t.whole(*axes))
    else:
        t.give("Squeeze", x, t.whole(*axes), only_ones=1)


def _unsqueeze(t: Translation) -> None:
    x, axes = t.value("x"), t.integers("axis")
    # Each axis counts in the shape that those before it have made.
    for axis in axes[:-1]:
        x = t.node("Unsqueeze", x, t.whole(axis))
    if axes:
        t.give("Unsqueeze", x, t.whole(axes[-1]))
    else:
        t.give("Identity", x)


def _flatten(t: Translation) -> None:
    x = t.value("x")
    rank = t.rank(x)
    first, last = (t.integer(key, default) for key, default in (("start_axis", 1), ("stop_axis", 1)))
    first, last = (axis + rank if axis < 0 else axis for axis in (first, last))
    if not 0 <= first <= last < rank:
        raise Untranslatable
    if last == rank - 1:
        t.give("Reshape", x, t.whole(*[0] * first, -1))  # 0 keeps a dimension
    else:
        behind = t.node("Shape", x, start=last + 1)
        t.give("Reshape", x, t.node("Concat", t.whole(*[0] * first, -1), behind, axis=0))


def _expand(t: Translation) -> None:
    # -1 keeps a dimension, as 1 does in ONNX.
    t.give("Expand", t.value("x"), t.node("Abs", t.sizes("shape")))


def _expand_as(t: Translation) -> None:
    shape = t.node("Shape", t.value("y")) if t.optional("y") else t.sizes("target_shape")
    t.give("Expand", t.value("x"), shape)


def _tile(t: Translation) -> None:
    x, times = t.value("x"), t.integers("repeat_times")
    more = len(times) - t.rank(x)
    if more > 0:
        x = t.node("Unsqueeze", x, t.whole(*range(more)))
    t.give("Tile", x, t.whole(*[1] * -more, *times))


def _concat(t: Translation) -> None:
    t.give("Concat", *t.values("x"), axis=t.integer("axis", 0))


def _stack(t: Translation) -> None:
    axis = t.integer("axis", 0)
    at = t.whole(axis)
    t.give("Concat", *(t.node("Unsqueeze", x, at) for x in t.values("x")), axis=axis)


def _split(t: Translation) -> None:
    x, axis = t.value("x"), t.integer("axis", 0)
    sizes = t.integers("sections", ())
    if not sizes:
        t.give_all("Split", x, axis=axis, num_outputs=len(t.outputs))
        return
    if -1 in sizes:
        shape = t.shape(x)
        whole = shape[axis] if -len(shape) <= axis < len(shape) else None
        if whole is None or sizes.count(-1) > 1:
            raise Untranslatable
        sizes = tuple(whole - sum(sizes) - 1 if size == -1 else size for size in sizes)
    if len(sizes) != len(t.outputs):
        raise Untranslatable
    t.give_all("Split", x, t.whole(*sizes), axis=axis)


def _unstack(t: Translation) -> None:
    x, axis = t.value("x"), t.integer("axis", 0)
    for index in range(len(t.outputs)):
        t.give_one(index, "Gather", x, t.scalar(index, "int64"), axis=axis)


def _slice(t: Translation) -> None:
    x, axes, dropped = t.value("input"), t.integers("axes"), t.integers("decrease_axis", ())
    steps = (t.sizes("strides"),) if t.has("strides") else ()
    inputs = (x, t.sizes("starts"), t.sizes("ends"), t.whole(*axes), *steps)
    if t.rank(x) == len(dropped) and t.rank(t.outputs[0]) == 1:
        dropped = dropped[1:]  # by a Paddle that had no values of rank 0
    if dropped:
        t.give("Squeeze", t.node("Slice", *inputs), t.whole(*dropped))
    else:
        t.give("Slice", *inputs)


# ---- Picking


def _embedding(t: Translation) -> None:
    ids, weight, pad = t.value("x"), t.value("weight"), t.integer("padding_idx", -1)
    attributes = {"padding_idx": pad} if pad >= 0 else {}
    t.give("Gather", weight, ids, axis=0, **attributes)


def _embedding_of_columns(t: Translation) -> None:
    """The first form of the operator, whose ids are [..., 1]."""
    ids, pad = t.node("Squeeze", t.value("x"), t.whole(-1)), t.integer("padding_idx", -1)
    attributes = {"padding_idx": pad} if pad >= 0 else {}
    t.give("Gather", t.value("weight"), ids, axis=0, **attributes)


def _gather(t: Translation) -> None:
    t.give("Gather", t.value("x"), t.value("index"), axis=t.integer("axis", 0))


def _gather_nd(t: Translation) -> None:
    t.give("GatherND", t.value("x"), t.value("index"))


def _take_along_axis(t: Translation) -> None:
    t.give("GatherElements", t.value("x"), t.value("index"), axis=t.integer("axis", 0))


def _triangle(upper: bool) -> Callable[[Translation], None]:
    def translate(t: Translation) -> None:
        diagonal = t.scalar(t.integer("diagonal", 0), "int64")
        t.give("Trilu", t.value("x"), diagonal, upper=int(upper))

    return translate


def _tril_triu(t: Translation) -> None:
    _triangle(not t.flag("lower", True))(t)


# ---- Making


def _filled(shape: tuple[int, ...], value: float, dtype: str) -> np.ndarray:
    """An array of one value, which takes no more memory than that."""
    if min(shape, default=0) < 0 or len(shape) > 8 or math.prod(shape) > _MAX_FILLED:
        raise Untranslatable
    with np.errstate(all="ignore"):
        return np.broadcast_to(np.asarray(value).astype(dtype), shape)


def _full(t: Translation) -> None:
    """The value and the shape may be attributes or inputs, and inputs constant or not."""
    dtype = t.result_dtype()
    try:
        value = t.number("value")
    except Untranslatable:
        flat = t.node("Reshape", t.value("value"), t.whole(1))
        t.give("Expand", t.node("Cast", flat, dtype=dtype), t.sizes("shape"))
        return
    try:
        shape = t.integers("shape")
    except Untranslatable:
        t.give("ConstantOfShape", t.sizes("shape"), value=_filled((1,), value, dtype))
    else:
        t.give_constant(_filled(shape, value, dtype))


def _full_like(t: Translation) -> None:
    x = t.value("x")
    value = _filled((1,), t.number("value", 0.0), t.result_dtype(t.dtype(x)))
    t.give("ConstantOfShape", t.node("Shape", x), value=value)


def _full_int_array(t: Translation) -> None:
    t.give_constant(np.array(t.integers("value"), np.int64).astype(t.result_dtype("int64")))


def _assign_value(t: Translation) -> None:
    t.optional("x")  # what it overwrites
    values, shape = t.numbers("values"), t.integers("shape")
    if min(shape, default=0) < 0 or math.prod(shape) != len(values):
        raise Untranslatable
    with np.errstate(all="ignore"):
        t.give_constant(np.array(values).astype(t.result_dtype()).reshape(shape))


def _range(t: Translation) -> None:
    limits = [t.value(key) for key in ("start", "end", "step")]
    dtype = t.text("dtype", "")
    if dtype and dtype != t.dtype(limits[0]):
        t.give("Cast", t.node("Range", *limits), dtype=dtype)
    else:
        t.give("Range", *limits)


SHAPE_OPERATORS: Mapping[str, Callable[[Translation], None]] = {
    "arange": _range,
    "assign_value": _assign_value,
    "concat": _concat,
    "embedding": _embedding,
    "expand": _expand,
    "expand_as": _expand_as,
    "flatten": _flatten,
    "full": _full,
    "full_int_array": _full_int_array,
    "full_like": _full_like,
    "full_with_tensor": _full,
    "gather": _gather,
    "gather_nd": _gather_nd,
    "index_select": _gather,
    "lookup_table": _embedding_of_columns,
    "numel": _size,
    "reshape": _reshape,
    "shape": _shape,
    "shape64": _shape,
    "slice": _slice,
    "split": _split,
    "split_with_num": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "strided_slice": _slice,
    "take_along_axis": _take_along_axis,
    "tile": _tile,
    "transpose": _transpose,
    "tril": _triangle(False),
    "tril_triu": _tril_triu,
    "triu": _triangle(True),
    "unbind": _unstack,
    "unsqueeze": _unsqueeze,
    "unstack": _unstack,
}
