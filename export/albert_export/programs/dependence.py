"""Which inputs the known arrays of a program depend on, and where its expressions take such arrays.

A few small inputs do not show all that a program does with particular words. What it makes of them beside
looking them up shows here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .expressions import Expression, Value
from .graph import Graph, Node

_SIZES = ("Shape", "Size")
_SAME = ("Cast", "Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
_FEW = 8


@dataclass(frozen=True)
class Taken:
    """A node that made an expression, or a value of it, of a known array called ``name``."""

    node: Node
    name: str
    made: Expression


class Dependence:
    """Grows as a graph is interpreted.

    Attributes:
        inputs: By the name of a known array, the inputs whose numbers, not only sizes, it depends on.
        taken: Where expressions take such arrays.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.inputs = {one.name: frozenset((one.name,)) for one in graph.inputs}
        self.taken: list[Taken] = []
        self._same = {one.name: one.name for one in graph.inputs}
        self._beside: list[tuple[frozenset[str], np.ndarray]] = []

    def add(self, node: Node, results: Sequence[object]) -> None:
        """Note what the results of a node depend on."""
        known = [name for name in node.inputs if name in self.inputs]
        inputs = frozenset().union(*(self.inputs[name] for name in known))
        if not inputs:
            return
        for output, result in zip(node.outputs, results, strict=False):
            if isinstance(result, Value):
                self.taken += [Taken(node, name, result.of) for name in known]
            elif isinstance(result, np.ndarray) and node.op not in _SIZES:
                self.inputs[output] = inputs
                if node.op in _SAME and known == [node.inputs[0]] and known[0] in self._same:
                    self._same[output] = self._same[known[0]]
        constants = (self._graph.constants[name] for name in node.inputs if name in self._graph.constants)
        self._beside += [(inputs, one) for one in constants if one.size <= _FEW and one.dtype.kind in "iuf"]

    def is_input(self, name: str, of: str) -> bool:
        """Whether the array ``name`` is the input ``of`` as it is."""
        return self._same.get(name) == of

    def numbers_beside(self, name: str) -> list[int]:
        """Whole numbers that the program compares, or computes otherwise, with what depends on an input."""
        found = {int(x) for inputs, one in self._beside if name in inputs for x in one.ravel() if x == x // 1}
        return sorted(found)
