"""Runs a graph on small inputs, with what depends on the word embeddings as expressions rather than numbers.

All else, shapes and masks and constants, is computed as it stands: so the many ways to write a mask need no
rules, its values tell what it does.
"""

from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass

import numpy as np

from ..errors import ExportError
from . import rules
from .dependence import Dependence
from .expressions import NotFitting, Value
from .graph import Graph, Node
from .operators import NOT_FITTING_IT


@dataclass(frozen=True)
class Unknown:
    """A value that no rule makes: of the first node that did not fit, and why."""

    node: Node
    why: str


_QUANTIZED = frozenset(
    (
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "MatMulInteger",
        "QuantizeLinear",
        "com.microsoft.DynamicQuantizeMatMul",
        "com.microsoft.MatMulIntegerToFloat",
        "com.microsoft.MatMulNBits",
        "dequantize_linear",
        "pd_op.dequantize_linear",
        "pd_op.quantize_linear",
        "quantize_linear",
    )
)
# An array that is known, an expression's value, or neither.
Traced = np.ndarray | Value | Unknown


def interpret(graph: Graph, feeds: Mapping[str, np.ndarray]) -> tuple[dict[str, Traced], Dependence]:
    """The value of each output, by the name callers know, for one array for each of the inputs.

    Also what of it depends on which inputs.
    """
    dependence = Dependence(graph)
    values: dict[str, Traced] = dict(feeds)
    fixed = set(graph.constants)
    left = Counter(name for node in graph.nodes for name in node.inputs)
    left.update(value for _, value in graph.outputs)
    for node in graph.nodes:
        results = _run(node, graph.constants, values, fixed)
        if all(name in fixed for name in node.inputs if name):
            fixed.update(node.outputs)
        dependence.add(node, results)
        for name, result in zip(node.outputs, results, strict=False):
            if name:
                values[name] = result
        for name in node.inputs:
            left[name] -= 1
            if not left[name]:
                values.pop(name, None)
    return {name: _value(value, graph.constants, values) for name, value in graph.outputs}, dependence


def _value(name: str, constants: Mapping[str, np.ndarray], values: Mapping[str, Traced]) -> Traced:
    if name in values:
        return values[name]
    if name in constants:
        return constants[name]
    return Unknown(Node("", (), (name,)), f"{name} is nowhere computed")


def _run(
    node: Node, constants: Mapping[str, np.ndarray], values: Mapping[str, Traced], fixed: Set[str]
) -> list[Traced]:
    """The outputs of a node. ``fixed``: the names of values that depend on constants alone."""
    inputs = [None if name == "" else _value(name, constants, values) for name in node.inputs]
    if node.op == "Choose":
        return [_choose(node, inputs)]
    unknown = next((value for value in inputs if isinstance(value, Unknown)), None)
    if unknown is not None:
        return [unknown] * len(node.outputs)
    known = [value for value in inputs if not isinstance(value, Unknown)]
    try:
        if node.op in _QUANTIZED:
            raise NotFitting("it is quantized; give the program before that, or its checkpoint")
        results = list(rules.apply(node, known, [name in fixed for name in node.inputs]))
    except NotFitting as error:
        failure = Unknown(error.node or node, str(error))
    except ExportError as error:
        failure = Unknown(node, str(error))
    except NOT_FITTING_IT as error:
        failure = Unknown(node, f"its inputs do not fit it ({error})")
    else:
        missing = len(node.outputs) - len(results)
        return [*results, *[Unknown(node, "it has outputs that no ALBERT needs")] * missing]
    return [failure] * len(node.outputs)


def _choose(node: Node, inputs: list[Traced | None]) -> Traced:
    condition, yes, no = inputs
    if isinstance(condition, Unknown):
        return condition
    if not isinstance(condition, np.ndarray) or condition.size != 1:
        return Unknown(node, "its condition depends on words")
    chosen = yes if condition.item() else no
    return Unknown(node, "a branch gives nothing") if chosen is None else chosen
