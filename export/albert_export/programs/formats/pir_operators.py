"""The inputs of Paddle 3's operators by name, in the order in which a .json program gives them.

Paddle's own table of these is paddle/phi/ops/yaml/ops.yaml.
"""

from collections.abc import Mapping

_X_Y = ("x", "y")
_X_AXIS = ("x", "axis")

PIR_INPUTS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("argmax", "max", "mean", "min", "prod", "sum"), _X_AXIS),
    **dict.fromkeys(("concat", "cumsum", "split_with_num", "squeeze", "unsqueeze"), _X_AXIS),
    "arange": ("start", "end", "step"),
    "clip": ("x", "min", "max"),
    "dropout": ("x", "seed", "p"),
    "embedding": ("x", "weight"),
    "expand": ("x", "shape"),
    "fc": ("input", "w", "bias"),
    "full_like": ("x", "value"),
    "full_with_tensor": ("value", "shape"),
    "gather": ("x", "index", "axis"),
    "gather_nd": ("x", "index"),
    "index_select": ("x", "index"),
    "layer_norm": ("x", "scale", "bias"),
    "reshape": ("x", "shape"),
    "scale": ("x", "scale"),
    "shape": ("input",),
    "shape64": ("input",),
    "slice": ("input", "starts", "ends"),
    "split": ("x", "sections", "axis"),
    "strided_slice": ("input", "starts", "ends", "strides"),
    "take_along_axis": ("x", "index"),
    "tile": ("x", "repeat_times"),
    "where": ("condition", "x", "y"),
}


def named_inputs(op: str, inputs: tuple[tuple[str, ...], ...]) -> dict[str, tuple[str, ...]]:
    """The inputs of an operator by name; those without one by their place."""
    names = PIR_INPUTS.get(op, _X_Y)
    return {
        names[place] if place < len(names) else f"input {place}": values
        for place, values in enumerate(inputs)
    }
