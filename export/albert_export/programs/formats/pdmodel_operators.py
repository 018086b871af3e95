"""The operators of .pdmodel by the names that Paddle 3 has for them, their inputs and their attributes.

Paddle's own table of these is paddle/phi/ops/yaml/op_compat.yaml. Names that are the same but for the case
are not listed. Where an input and an attribute get one name, the input counts, as it does in Paddle.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Renamed:
    """Paddle 3's name of an operator, its inputs and attributes by their old names, its result's old name."""

    op: str
    names: Mapping[str, str] = field(default_factory=dict)
    output: str = "Out"


_REDUCE = {"dim": "axis", "keep_dim": "keepdim", "out_dtype": "dtype"}
_SHAPE = {"ShapeTensor": "shape", "ShapeTensorList": "shape"}
_LOOK_UP = {"Ids": "x", "W": "weight"}
_SLICE = {
    "Input": "input",
    "StartsTensor": "starts",
    "StartsTensorList": "starts",
    "EndsTensor": "ends",
    "EndsTensorList": "ends",
    "StridesTensor": "strides",
    "StridesTensorList": "strides",
}
_AXES = {"axes": "axis", "AxesTensor": "axis", "AxesTensorList": "axis"}

PDMODEL_OPERATORS: Mapping[str, Renamed] = {
    **{
        name: Renamed(name)
        for name in (
            *("abs", "assign", "assign_value", "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor"),
            *("bmm", "ceil", "cos", "equal", "erf", "exp", "floor", "gather_nd", "gelu", "greater_equal"),
            *("greater_than", "less_equal", "less_than", "log", "log_softmax", "logical_and", "logical_not"),
            *("logical_or", "logical_xor", "not_equal", "reciprocal", "relu"),
            *("rsqrt", "share_data", "sigmoid", "sign", "sin", "softmax", "sqrt", "square", "tanh"),
            *("tril_triu", "unbind", "where"),
        )
    },
    "arg_max": Renamed("argmax"),
    "cast": Renamed("cast", {"out_dtype": "dtype"}),
    "clip": Renamed("clip"),
    "concat": Renamed("concat", {"AxisTensor": "axis"}),
    "cumsum": Renamed("cumsum"),
    "dropout": Renamed("dropout", {"dropout_prob": "p", "dropout_implementation": "mode"}),
    "elementwise_add": Renamed("add"),
    "elementwise_div": Renamed("divide"),
    "elementwise_floordiv": Renamed("floor_divide"),
    "elementwise_max": Renamed("maximum"),
    "elementwise_min": Renamed("minimum"),
    "elementwise_mod": Renamed("remainder"),
    "elementwise_mul": Renamed("multiply"),
    "elementwise_pow": Renamed("elementwise_pow"),
    "elementwise_sub": Renamed("subtract"),
    "expand_as_v2": Renamed("expand_as"),
    "expand_v2": Renamed("expand", {"expand_shapes_tensor": "shape"}),
    "fc": Renamed("fc"),
    "fill_any_like": Renamed("full_like"),
    "fill_constant": Renamed("full", {**_SHAPE, "ValueTensor": "value"}),
    "flatten_contiguous_range": Renamed("flatten"),
    "gather": Renamed("gather"),
    "increment": Renamed("increment", {"step": "value"}),
    "index_select": Renamed("index_select", {"dim": "axis"}),
    "isinf_v2": Renamed("isinf"),
    "isnan_v2": Renamed("isnan"),
    "layer_norm": Renamed("layer_norm", output="Y"),
    "lookup_table": Renamed("lookup_table", _LOOK_UP),
    "lookup_table_v2": Renamed("embedding", _LOOK_UP),
    "matmul": Renamed("matmul", {"transpose_X": "transpose_x", "transpose_Y": "transpose_y"}),
    "matmul_v2": Renamed("matmul", {"trans_x": "transpose_x", "trans_y": "transpose_y"}),
    "mean": Renamed("mean"),
    "mul": Renamed("mul"),
    "pow": Renamed("pow", {"factor": "y", "FactorTensor": "y"}),
    "range": Renamed("arange"),
    "reduce_amax": Renamed("max", _REDUCE),
    "reduce_amin": Renamed("min", _REDUCE),
    "reduce_max": Renamed("max", _REDUCE),
    "reduce_mean": Renamed("mean", _REDUCE),
    "reduce_min": Renamed("min", _REDUCE),
    "reduce_prod": Renamed("prod", _REDUCE),
    "reduce_sum": Renamed("sum", _REDUCE),
    "reshape": Renamed("reshape", _SHAPE),
    "reshape2": Renamed("reshape", _SHAPE),
    "scale": Renamed("scale", {"ScaleTensor": "scale"}),
    "shape": Renamed("shape"),
    "size": Renamed("numel", {"Input": "x"}),
    "slice": Renamed("slice", _SLICE),
    "split": Renamed("split", {"AxisTensor": "axis", "SectionsTensorList": "sections"}),
    "squeeze2": Renamed("squeeze", _AXES),
    "stack": Renamed("stack", output="Y"),
    "strided_slice": Renamed("strided_slice", _SLICE),
    "take_along_axis": Renamed("take_along_axis", {"Input": "x"}, "Result"),
    "tile": Renamed("tile", {"RepeatTimes": "repeat_times", "repeat_times_tensor": "repeat_times"}),
    "transpose": Renamed("transpose", {"axis": "perm"}),
    "transpose2": Renamed("transpose", {"axis": "perm"}),
    "unsqueeze2": Renamed("unsqueeze", _AXES),
    "unstack": Renamed("unstack", output="Y"),
}
