"""What Paddle's operators are in ONNX's, by the names that Paddle 3 has for them and for their inputs.

The reference is Paddle's own (paddle/phi/ops/yaml/ops.yaml). A weight or a shape that is known becomes a
constant, and values that are the same keep their shape: a recogniser should find little to see through.
"""

from collections.abc import Callable, Mapping

from .paddle_operation import Translation, Untranslatable
from .paddle_shape_operators import SHAPE_OPERATORS

_Translate = Callable[[Translation], None]


# ---- One element at a time


def _unary(op: str) -> _Translate:
    return lambda t: t.give(op, t.value("x"))


def _binary(op: str) -> _Translate:
    return lambda t: t.give(op, *_aligned(t))


def _aligned(t: Translation) -> tuple[str, str]:
    """x and y, which start at the dimension ``axis`` of each other, or end together if it is -1."""
    x, y, axis = t.value("x"), t.value("y"), t.integer("axis", -1)
    missing = 0 if axis == -1 else t.rank(x) - axis - t.rank(y)
    if missing < 0:
        raise Untranslatable
    return x, t.node("Unsqueeze", y, t.whole(*range(-missing, 0))) if missing else y


def _not_equal(t: Translation) -> None:
    t.give("Not", t.node("Equal", *_aligned(t)))


def _floor_divide(t: Translation) -> None:
    x, y = _aligned(t)
    t.give("Div", t.node("Sub", x, t.node("Mod", x, y)), y)


def _bitwise(op: str) -> _Translate:
    def translate(t: Translation) -> None:
        values = (t.value("x"), t.value("y")) if t.has("y") else (t.value("x"),)
        if any(t.dtype(value) != "bool" for value in values):
            raise Untranslatable
        t.give(op, *values)

    return translate


def _scale(t: Translation) -> None:
    x, bias = t.value("x"), t.number("bias", 0.0)
    dtype = t.dtype(x)
    try:
        factor = t.scalar(t.number("scale", 1.0), dtype)
    except Untranslatable:  # one that is computed
        factor = t.node("Reshape", t.node("Cast", t.value("scale"), dtype=dtype), t.whole())
    if bias == 0:
        t.give("Mul", x, factor)
    elif t.flag("bias_after_scale", True):
        t.give("Add", t.node("Mul", x, factor), t.scalar(bias, dtype))
    else:
        t.give("Mul", t.node("Add", x, t.scalar(bias, dtype)), factor)


def _pow(t: Translation) -> None:
    x = t.value("x")
    t.give("Pow", x, t.scalar(t.number("y", 1.0), t.dtype(x)))


def _square(t: Translation) -> None:
    t.give("Mul", t.value("x"), t.value("x"))


def _rsqrt(t: Translation) -> None:
    t.give("Reciprocal", t.node("Sqrt", t.value("x")))


def _increment(t: Translation) -> None:
    x = t.value("x")
    t.give("Add", x, t.scalar(t.number("value", 1.0), t.dtype(x)))


def _gelu(t: Translation) -> None:
    t.give("Gelu", t.value("x"), approximate="tanh" if t.flag("approximate") else "none")


def _clip(t: Translation) -> None:
    x = t.value("x")
    low, high = (t.scalar(t.number(key), t.dtype(x)) for key in ("min", "max"))
    t.give("Clip", x, low, high)


def _cast(t: Translation) -> None:
    t.give("Cast", t.value("x"), dtype=t.result_dtype())


def _dropout(t: Translation) -> None:
    if not t.flag("is_test"):
        raise Untranslatable  # it drops at random
    x, share = t.value("x"), t.number("p", 0.5)
    t.optional("seed")
    if t.text("mode", "downgrade_in_infer") == "upscale_in_train":
        t.give("Identity", x)
    else:
        t.give("Mul", x, t.scalar(1.0 - share, t.dtype(x)))


def _where(t: Translation) -> None:
    t.give("Where", t.value("condition"), t.value("x"), t.value("y"))


# ---- Rows of elements


def _matmul(t: Translation) -> None:
    x, y, alpha = t.value("x"), t.value("y"), t.number("alpha", 1.0)
    transposed = {"transA": int(t.flag("transpose_x")), "transB": int(t.flag("transpose_y"))}
    if alpha == 1:
        t.give("MatMul", x, y, **transposed)
    else:
        t.give("MatMul", x, y, **transposed, alpha=alpha)


def _mul(t: Translation) -> None:
    x, y = t.value("x"), t.value("y")
    _check_flattening(t, x, y, t.integer("x_num_col_dims", 1), t.integer("y_num_col_dims", 1))
    t.give("MatMul", x, y)


def _fc(t: Translation) -> None:
    x, weight, activation = t.value("input"), t.value("w"), t.text("activation_type", "")
    if activation not in ("", "relu") or t.flag("padding_weights"):
        raise Untranslatable
    _check_flattening(t, x, weight, t.integer("in_num_col_dims", 1), 1)
    product = t.node("MatMul", x, weight)
    bias = t.optional("bias")
    wide = t.node("Add", product, bias) if bias else product
    t.give("Relu" if activation else "Identity", wide)


def _check_flattening(t: Translation, x: str, y: str, x_rows: int, y_rows: int) -> None:
    """Paddle flattens both to matrices; that is a plain product only where nothing needs flattening."""
    if t.rank(x) != x_rows + 1 or (t.rank(y), y_rows) != (2, 1):
        raise Untranslatable


def _softmax(op: str) -> _Translate:
    return lambda t: t.give(op, t.value("x"), axis=t.integer("axis", -1))


def _layer_norm(t: Translation) -> None:
    x, axis, weight = t.value("x"), t.integer("begin_norm_axis", 1), t.optional("scale")
    if axis != t.rank(x) - 1 and (weight or t.has("bias")):
        raise Untranslatable  # these are flat in Paddle
    values = (x, weight, t.optional("bias"))
    t.give("LayerNormalization", *values, axis=axis, epsilon=t.number("epsilon", 1e-5))


def _reduce(op: str) -> _Translate:
    def translate(t: Translation) -> None:
        x = t.value("x")
        if t.text("dtype", ""):
            x = t.node("Cast", x, dtype=t.result_dtype())
        axes = () if t.flag("reduce_all") else t.integers("axis", ())
        inputs, keep = (x, t.whole(*axes)) if axes else (x,), t.flag("keepdim")
        if not axes and not keep and t.rank(t.outputs[0]) == 1:
            # A total, by a Paddle that had no values of rank 0.
            t.give("Reshape", t.node(op, *inputs, keepdims=0), t.whole(-1))
        else:
            t.give(op, *inputs, keepdims=int(keep))

    return translate


def _argmax(t: Translation) -> None:
    x, axis, keep = t.value("x"), t.integer("axis", 0), int(t.flag("keepdims"))
    if t.flag("flatten"):
        x, axis, keep = t.node("Reshape", x, t.whole(-1)), 0, 0
    if t.text("dtype", "") == "int32":
        t.give("Cast", t.node("ArgMax", x, axis=axis, keepdims=keep), dtype="int32")
    else:
        t.give("ArgMax", x, axis=axis, keepdims=keep)


def _cumsum(t: Translation) -> None:
    x, axis = t.value("x"), t.integer("axis", -1)
    if t.flag("exclusive") or t.flag("reverse"):
        raise Untranslatable
    if t.flag("flatten"):
        x, axis = t.node("Reshape", x, t.whole(-1)), 0
    t.give("CumSum", x, t.scalar(axis, "int64"))


PADDLE_OPERATORS: Mapping[str, _Translate] = {
    **{
        name: _unary(op)
        for name, op in {
            "abs": "Abs",
            "assign": "Identity",
            "ceil": "Ceil",
            "cos": "Cos",
            "erf": "Erf",
            "exp": "Exp",
            "floor": "Floor",
            "isinf": "IsInf",
            "isnan": "IsNaN",
            "log": "Log",
            "logical_not": "Not",
            "reciprocal": "Reciprocal",
            "relu": "Relu",
            "share_data": "Identity",
            "sigmoid": "Sigmoid",
            "sign": "Sign",
            "sin": "Sin",
            "sqrt": "Sqrt",
            "tanh": "Tanh",
        }.items()
    },
    **{
        name: _binary(op)
        for name, op in {
            "add": "Add",
            "bmm": "MatMul",
            "divide": "Div",
            "elementwise_pow": "Pow",
            "equal": "Equal",
            "greater_equal": "GreaterOrEqual",
            "greater_than": "Greater",
            "less_equal": "LessOrEqual",
            "less_than": "Less",
            "logical_and": "And",
            "logical_or": "Or",
            "logical_xor": "Xor",
            "maximum": "Max",
            "minimum": "Min",
            "multiply": "Mul",
            "remainder": "Mod",
            "subtract": "Sub",
        }.items()
    },
    "argmax": _argmax,
    "bitwise_and": _bitwise("And"),
    "bitwise_not": _bitwise("Not"),
    "bitwise_or": _bitwise("Or"),
    "bitwise_xor": _bitwise("Xor"),
    "cast": _cast,
    "clip": _clip,
    "cumsum": _cumsum,
    "dropout": _dropout,
    "fc": _fc,
    "floor_divide": _floor_divide,
    "gelu": _gelu,
    "increment": _increment,
    "layer_norm": _layer_norm,
    "log_softmax": _softmax("LogSoftmax"),
    "matmul": _matmul,
    "max": _reduce("ReduceMax"),
    "mean": _reduce("ReduceMean"),
    "min": _reduce("ReduceMin"),
    "mul": _mul,
    "not_equal": _not_equal,
    "pow": _pow,
    "prod": _reduce("ReduceProd"),
    "rsqrt": _rsqrt,
    "scale": _scale,
    "softmax": _softmax("Softmax"),
    "square": _square,
    "sum": _reduce("ReduceSum"),
    "where": _where,
    **SHAPE_OPERATORS,
}
