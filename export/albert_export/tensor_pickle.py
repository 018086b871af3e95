"""Reads the pickles that hold state dicts (.pdparams) without unpickling them.

Python's unpickler can call whatever a file names. This one is a small stack machine over pickletools.genops:
it knows the opcodes that a dict of numpy arrays needs and has none that calls anything. The names a file may
mention (numpy's array and dtype constructors, _codecs.encode) are symbols here, never functions.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from albert_runtime.errors import ArtifactError

_SYMBOLS = {
    "numpy.core.multiarray _reconstruct": "array",
    "numpy._core.multiarray _reconstruct": "array",
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "_codecs encode": "encode",
}
_DTYPES = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "b1"})
_PUSH = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
    | {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
)
_CONSTANTS: dict[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Refused(Exception):
    """The pickle holds something that no state dict needs."""


@dataclass(frozen=True)
class _Symbol:
    role: str


@dataclass
class _DType:
    code: str
    order: str = "<"


class _Array:
    """An array between its REDUCE and its BUILD; ``value`` is set by the latter."""

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def build(self, state: object) -> None:
        match state:
            case (int(), tuple(shape), _DType() as dtype, bool(fortran), bytes(data)):
                pass
            case _:
                raise _Refused("an array whose state is not (version, shape, dtype, order, bytes)")
        if not all(type(size) is int and size >= 0 for size in shape):
            raise _Refused("an array whose shape is not made of whole numbers")
        flat = np.frombuffer(data, np.dtype(dtype.order + dtype.code))
        self.value = flat.reshape(shape, order="F" if fortran else "C")


class _Machine:
    """The stack machine; ``run`` returns the object that STOP finds."""

    def __init__(self) -> None:
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}

    def run(self, file: BinaryIO) -> object:
        for opcode, argument, _ in pickletools.genops(file):
            name = opcode.name
            if name == "STOP":
                return self.stack.pop()
            self.step(name, argument)
        raise ValueError("no end")

    def step(self, name: str, argument: object) -> None:
        if name in _PUSH:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _TUPLES:
            count = _TUPLES[name]
            self.stack[-count:] = [tuple(self.stack[-count:])]
        elif name in ("PROTO", "FRAME"):
            pass
        else:
            handler = getattr(self, f"op_{name.lower()}", None)
            if handler is None:
                raise _Refused(f"the instruction {name}")
            handler(argument)

    def pop_mark(self) -> list[object]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def op_mark(self, _: object) -> None:
        self.marks.append(len(self.stack))

    def op_tuple(self, _: object) -> None:
        self.stack.append(tuple(self.pop_mark()))

    def op_memoize(self, _: object) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def op_binput(self, argument: int) -> None:
        self.memo[argument] = self.stack[-1]

    op_long_binput = op_binput

    def op_binget(self, argument: int) -> None:
        self.stack.append(self.memo[argument])

    op_long_binget = op_binget

    def op_global(self, argument: str) -> None:
        if argument not in _SYMBOLS:
            raise _Refused(f"the name {argument.replace(' ', '.')[:100]!r}")
        self.stack.append(_Symbol(_SYMBOLS[argument]))

    def op_stack_global(self, _: object) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.op_global(f"{module} {name}")

    def op_reduce(self, _: object) -> None:
        arguments, symbol = self.stack.pop(), self.stack.pop()
        match symbol, arguments:
            case _Symbol("array"), (_Symbol("ndarray"), *_):
                result: object = _Array()
            case _Symbol("dtype"), (str(code), *_) if code in _DTYPES:
                result = _DType(code)
            case _Symbol("dtype"), (code, *_):
                raise _Refused(f"the data type {code!r:.40}")
            case _Symbol("encode"), (str(text), "latin1"):
                result = text.encode("latin1")
            case _:
                raise _Refused("a call that builds no array")
        self.stack.append(result)

    def op_build(self, _: object) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        match target, state:
            case _Array(), _:
                target.build(state)
            case _DType(), (_, ("<" | ">" | "|" | "=") as order, *_):
                target.order = order
            case _:
                raise _Refused("a state for something that is no array")

    def op_setitems(self, _: object) -> None:
        items = self.pop_mark()
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise _Refused("items for something that is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str):
                raise _Refused(f"a dict key that is no string: {key!r:.40}")
            target[key] = value

    def op_setitem(self, _: object) -> None:
        self.marks.append(len(self.stack) - 2)
        self.op_setitems(None)

    def op_appends(self, _: object) -> None:
        items = self.pop_mark()
        target = self.stack[-1]
        if not isinstance(target, list):
            raise _Refused("items for something that is no list")
        target.extend(items)

    def op_append(self, _: object) -> None:
        self.marks.append(len(self.stack) - 1)
        self.op_appends(None)


def read_state_dict(path: Path) -> dict[str, object]:
    """The dict pickled in ``path``: arrays by name, and whatever plain values lie beside them.

    The arrays are read-only views of the bytes read. Raises ArtifactError for a file that is truncated, is no
    pickle, or holds anything but plain values and numpy arrays; nothing in the file is ever called.
    """
    try:
        with path.open("rb") as file:
            state = _Machine().run(file)
    except _Refused as error:
        raise ArtifactError(
            f"{path} is refused: a checkpoint of arrays cannot hold {error}; "
            "get the file from a source you trust"
        ) from None
    except MemoryError:
        raise ArtifactError(f"{path} asks for more memory than there is; it is damaged or hostile") from None
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise ArtifactError(
            f"{path} is truncated or no pickle ({_first_line(error)}); fetch the checkpoint again"
        ) from None
    if not isinstance(state, dict):
        raise ArtifactError(f"{path} holds a {type(state).__name__}, not a state dict of named arrays")
    return {name: value.value if isinstance(value, _Array) else value for name, value in state.items()}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
