"""One operator of a Paddle program, and what its translation is written with.

Both formats' operators come here under the names that Paddle 3 gives them and what goes into them. What is
an attribute in one format and an input in the other (axes, shapes) is asked for by one name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ..graph import Attribute, Node

_INT64 = 1 << 63
_MAX_ATTRIBUTE = 1024
_Kind = TypeVar("_Kind", bool, str)


class Untranslatable(Exception):
    """None of ONNX's operators can be put in the place of this one; it is kept as the file has it."""


@dataclass(frozen=True)
class Type:
    """What a file says of a value: numpy's name of its type, and its sizes, None where any is taken."""

    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Operation:
    """An operator of a file.

    ``op`` is Paddle 3's name of it, '' if it is none of ours; ``kind`` is the file's. ``outputs`` are its
    results, ``others`` what it also gives but an inference hardly reads (a dropout's mask). If it is
    ``in_place``, who reads its first input later reads its result.
    """

    op: str
    kind: str
    name: str
    inputs: Mapping[str, tuple[str, ...]]
    outputs: tuple[str, ...]
    others: tuple[str, ...]
    attributes: Mapping[str, object]
    in_place: bool = False


class Translation:
    """An operation as it becomes nodes and constants; its inputs and outputs are values of the graph.

    Whatever is missing or of another type than the operator's raises Untranslatable.
    """

    def __init__(
        self,
        operation: Operation,
        constants: Mapping[str, np.ndarray],
        types: Mapping[str, Type],
        fresh: Callable[[str], str],
    ) -> None:
        """``operation`` has the graph's values; ``fresh`` makes a name for one that the file has not."""
        self.operation = operation
        self.outputs = operation.outputs
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self._asked: set[str] = set()
        self._known, self._types, self._fresh = constants, types, fresh

    # ---- What goes in

    def values(self, key: str) -> tuple[str, ...]:
        """The values of an input that is a list."""
        found = self._input(key)
        if not found:
            raise Untranslatable
        return found

    def value(self, key: str) -> str:
        """The value of an input."""
        found = self.values(key)
        if len(found) != 1:
            raise Untranslatable
        return found[0]

    def optional(self, key: str) -> str:
        """The value of an input, or '' if it is left out."""
        return self.value(key) if self._input(key) else ""

    def has(self, key: str) -> bool:
        """Whether there is such an input or attribute."""
        return bool(self._input(key)) or key in self.operation.attributes

    def unread(self) -> bool:
        """Whether there is an input that nothing asked for: the operation does more than was translated."""
        return any(values and key not in self._asked for key, values in self.operation.inputs.items())

    def _input(self, key: str) -> tuple[str, ...]:
        self._asked.add(key)
        return self.operation.inputs.get(key, ())

    def known(self, value: str) -> np.ndarray | None:
        """The constant that a value is, if it is one."""
        return self._known.get(value)

    def dtype(self, value: str) -> str:
        """The type of a value, as the file declares it."""
        return self._declared(value).dtype

    def shape(self, value: str) -> tuple[int | None, ...]:
        """The sizes of a value, as the file declares them."""
        return self._declared(value).shape

    def rank(self, value: str) -> int:
        """The number of a value's dimensions, as the file declares it."""
        return len(self.shape(value))

    def _declared(self, value: str) -> Type:
        if value not in self._types:
            raise Untranslatable
        return self._types[value]

    # ---- Attributes, which may be inputs that are constants

    def _attribute(self, key: str, default: object) -> object:
        if self._input(key):
            array = self.known(self.value(key))
            if array is None or array.ndim > 1 or array.size > _MAX_ATTRIBUTE:
                raise Untranslatable
            return tuple(array.tolist()) if array.ndim and array.size != 1 else array.ravel()[0].item()
        found = self.operation.attributes.get(key, default)
        if found is None:
            raise Untranslatable
        return found

    def flag(self, key: str, default: bool = False) -> bool:
        """A truth value."""
        return _of_type(bool, self._attribute(key, default))

    def text(self, key: str, default: str) -> str:
        """A text."""
        return _of_type(str, self._attribute(key, default))

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number; without a default it must be there."""
        return _whole(self._attribute(key, default))

    def number(self, key: str, default: float | None = None) -> float:
        """A number; without a default it must be there."""
        found = self._attribute(key, default)
        return found if isinstance(found, float) else _whole(found)

    def integers(self, key: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """Whole numbers; without a default they must be there. A single one is a list of one."""
        found = self._attribute(key, default)
        return tuple(_whole(item) for item in found) if isinstance(found, tuple) else (_whole(found),)

    def numbers(self, key: str) -> tuple[float, ...]:
        """Numbers, which must be there."""
        found = self._attribute(key, None)
        items = found if isinstance(found, tuple) else (found,)
        return tuple(item if isinstance(item, float) else _whole(item) for item in items)

    def result_dtype(self, default: str = "") -> str:
        """The attribute dtype, numpy's name, or ``default`` where it is left open."""
        found = self.text("dtype", "") or default
        if not found:
            raise Untranslatable
        return found

    # ---- Values that the translation adds

    def constant(self, array: np.ndarray) -> str:
        """A new value that is this array."""
        name = self._fresh(self.operation.name)
        self.constants[name] = array
        return name

    def scalar(self, number: object, dtype: str) -> str:
        """A new value [] of a type; out of its range it is what a cast makes of it."""
        with np.errstate(all="ignore"):
            return self.constant(np.asarray(number).astype(dtype))

    def whole(self, *numbers: int) -> str:
        """A new value [n] of int64."""
        return self.constant(np.array(numbers, np.int64))

    def sizes(self, key: str) -> str:
        """An input or attribute that is a list of whole numbers, as one value [n]."""
        found = self._input(key)
        if not found:
            return self.whole(*self.integers(key))
        if len(found) == 1:
            return found[0]
        flat = self.whole(-1)
        return self.node("Concat", *(self.node("Reshape", item, flat) for item in found), axis=0)

    # ---- What comes out

    def node(self, op: str, *inputs: str, **attributes: Attribute) -> str:
        """Add a node; the value that it gives."""
        name = self._fresh(self.operation.name)
        self._append(op, inputs, (name,), attributes)
        return name

    def give(self, op: str, *inputs: str, **attributes: Attribute) -> None:
        """Add the node that gives the operation's result."""
        self.give_one(0, op, *inputs, **attributes)

    def give_one(self, index: int, op: str, *inputs: str, **attributes: Attribute) -> None:
        """Add the node that gives one of the operation's results."""
        if index >= len(self.outputs):
            raise Untranslatable
        self._append(op, inputs, (self.outputs[index],), attributes)

    def give_all(self, op: str, *inputs: str, **attributes: Attribute) -> None:
        """Add the node that gives all of the operation's results."""
        self._append(op, inputs, self.outputs, attributes)

    def give_constant(self, array: np.ndarray) -> None:
        """The operation's result is this array."""
        self.constants[self.outputs[0]] = array

    def _append(
        self, op: str, inputs: tuple[str, ...], outputs: tuple[str, ...], attributes: Mapping[str, Attribute]
    ) -> None:
        operation = self.operation
        self.nodes.append(Node(op, inputs, outputs, attributes, operation.name, operation.kind))


def _of_type(kind: type[_Kind], value: object) -> _Kind:
    if not isinstance(value, kind):
        raise Untranslatable
    return value


def _whole(value: object) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or not -_INT64 <= value < _INT64:
        raise Untranslatable
    return int(value)  # of a truth value, too
