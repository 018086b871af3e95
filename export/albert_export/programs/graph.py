"""A program as a list of operators, whatever file it came from; the operators are ONNX's.

Each reader of a file format translates into this form: ``formats``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..checkpoint.stored_tensor import shown

# What an attribute can be.
Attribute = int | float | str | tuple[int, ...] | np.ndarray


@dataclass(frozen=True)
class Node:
    """One operator: values by name go in, '' for one that is left out, and come out.

    ``op`` is the operator of ``operators.OPERATORS`` it is computed by, or else the file's own, which then
    cannot be computed. ``name`` and ``kind`` are the file's own words, for messages.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    name: str = ""
    kind: str = ""

    def __str__(self) -> str:
        kind = shown(self.kind or self.op, 60)
        return f"{shown(self.name)} ({kind})" if self.name else f"a {kind}"


@dataclass(frozen=True)
class Input:
    """An input: its name, its sizes (None where any is taken), and numpy's name of its type."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class Graph:
    """A program whose nodes are in an order in which they can be computed.

    ``outputs``: the names that callers know them by, and the values they are. ``constants``: weights and
    other arrays by the name of the value; they may be mapped from ``files``, which hold the program, in the
    order program, weights. 16-bit floats are float16, or float32 where the file has bfloat16.
    """

    inputs: tuple[Input, ...]
    outputs: tuple[tuple[str, str], ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, np.ndarray]
    files: tuple[Path, ...]
