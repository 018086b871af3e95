"""A Paddle program that is becoming a graph, operator by operator; and the weights beside its file."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from albert_runtime.errors import ArtifactError

from ...checkpoint.stored_tensor import shown
from ...names import WEIGHTS_SUFFIX
from ...paddle_model.pdiparams import DATA_TYPES, map_tensors, read_tensor_ranges
from ..graph import Graph, Input, Node
from .paddle_operation import Operation, Translation, Type, Untranslatable
from .paddle_operators import PADDLE_OPERATORS

# Of a program without its weights; those of the largest models have a few megabytes.
_MAX_PROGRAM_BYTES = 1 << 26
_MAX_DIMENSION = 1 << 40
_MAX_RANK = 8
_Item = TypeVar("_Item")


class Damaged(Exception):
    """The file is no program, or contradicts itself; the text says where."""


def damaged(path: Path, what: object) -> ArtifactError:
    """The error for a program that cannot be read."""
    return ArtifactError(f"{path} is truncated or no Paddle program: {what}")


def read_program(path: Path) -> bytes:
    """The bytes of a program file."""
    try:
        if path.stat().st_size > _MAX_PROGRAM_BYTES:
            raise ArtifactError(f"{path} is far larger than a program can be")
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"cannot read {path} ({error.strerror})") from None


def data_type(name: str) -> str:
    """numpy's name of the type in which a graph has what is of this Paddle type; '' if there is none."""
    if name == "bfloat16":
        return "float32"
    return name if name in DATA_TYPES.values() else ""


def sizes_of(dims: Sequence[int]) -> tuple[int | None, ...]:
    """The sizes in a file's description of a value: -1 means any, and so do products with it."""
    if len(dims) > _MAX_RANK or max(dims, default=0) > _MAX_DIMENSION:
        raise Damaged(f"{shown(str(list(dims[:_MAX_RANK])))} is no shape")
    return tuple(None if size < 0 else size for size in dims)


def read_weights(
    program: Path, shapes: Mapping[str, tuple[int | None, ...]], dtypes: Mapping[str, str]
) -> tuple[dict[str, np.ndarray], tuple[Path, ...]]:
    """The weights of a program, mapped, from the .pdiparams beside it, and the program's files.

    ``shapes`` and ``dtypes`` are what the program says of them, bfloat16 included.
    """
    if not shapes:
        return {}, (program,)
    for name, shape in shapes.items():
        if not all(shape) or not dtypes[name]:  # a size of 0, or one left open
            raise Damaged(f"the weight {shown(name)} has no elements, or is of a type unknown here")
    path = program.with_suffix(WEIGHTS_SUFFIX)
    if not path.is_file():
        raise ArtifactError(f"{program} needs its weights, {path.name} in the same folder; put it there")
    sizes = {name: tuple(size or 0 for size in shape) for name, shape in shapes.items()}
    return map_tensors(path, read_tensor_ranges(path, sizes, dtypes)), (program, path)


class Program:
    """The graph of a program so far.

    A file may write a name again; each time is a value of its own. ``constants``: the weights by name.
    ``types``: what the file says of its names. ``read``: the names that anything reads.
    """

    def __init__(
        self, constants: Mapping[str, np.ndarray], types: Mapping[str, Type], read: Set[str]
    ) -> None:
        self._constants, self._read = dict(constants), read
        self._types, self._declared = dict(types), types
        self._nodes: list[Node] = []
        self._values = {name: name for name in constants}
        # Names that the file uses, and those that were made.
        self._taken, self._made = {*constants, *types, *read}, 0

    def add_input(self, name: str) -> None:
        """A value that callers give."""
        if name in self._values:
            raise Damaged(f"two values are called {shown(name)}")
        self._values[name] = name

    def value(self, name: str) -> str:
        """The value that a name of the file is now."""
        if name not in self._values:
            raise Damaged(f"nothing gives {shown(name)} before it is read")
        return self._values[name]

    def add(self, operation: Operation) -> None:
        """The nodes of the next operator, or, if it cannot be translated, one node of the file's kind."""
        inputs = {key: tuple(self.value(name) for name in names) for key, names in operation.inputs.items()}
        outputs = tuple(self._give(name) for name in operation.outputs)
        others = tuple(self._give(name) for name in operation.others)
        translated = replace(operation, inputs=inputs, outputs=outputs, others=others)
        translation = Translation(translated, self._constants, self._types, self._fresh)
        try:
            if operation.op not in PADDLE_OPERATORS or not outputs or self._read & {*operation.others}:
                raise Untranslatable
            PADDLE_OPERATORS[operation.op](translation)
            if translation.unread():
                raise Untranslatable
        except Untranslatable:
            self._keep(operation, inputs, (*outputs, *others))
        else:
            self._nodes += translation.nodes
            self._constants |= translation.constants
            if operation.in_place:
                first = next(iter(operation.inputs.values()), ())
                self._values.update(zip(first, outputs, strict=False))

    def _keep(
        self, operation: Operation, inputs: Mapping[str, tuple[str, ...]], outputs: tuple[str, ...]
    ) -> None:
        """A node of the file's kind. One in place may change any of its inputs, so it gives them anew."""
        values = tuple(value for values in inputs.values() for value in values)
        if operation.in_place:
            names = dict.fromkeys(name for names in operation.inputs.values() for name in names)
            outputs = (*outputs, *(self._give(name) for name in names))
        self._nodes.append(Node(operation.kind, values, outputs, {}, operation.name, operation.kind))

    def _give(self, name: str) -> str:
        value = self._fresh(name) if name in self._values else name
        if name in self._declared:
            self._types[value] = self._declared[name]
        self._values[name] = value
        return value

    def _fresh(self, name: str) -> str:
        """A new name after that of an operation or value."""
        while True:
            self._made += 1
            made = f"{name}#{self._made}"
            if made not in self._taken:
                return made

    def graph(
        self,
        inputs: Sequence[tuple[int, Input]],
        outputs: Sequence[tuple[int, tuple[str, str]]],
        files: tuple[Path, ...],
    ) -> Graph:
        """The finished graph. Its inputs and outputs come each with its place among them."""
        if not outputs:
            raise Damaged("it has no outputs")
        return Graph(_in_order(inputs), _in_order(outputs), tuple(self._nodes), self._constants, files)


def _in_order(placed: Sequence[tuple[int, _Item]]) -> tuple[_Item, ...]:
    return tuple(item for _, item in sorted(placed, key=lambda pair: pair[0]))
