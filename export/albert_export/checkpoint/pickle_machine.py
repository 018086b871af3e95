"""Reads the pickles that hold state dicts (.pdparams, and torch's) without unpickling them.

Python's unpickler can call whatever a file names. This one is a small stack machine over pickletools.genops:
it knows the opcodes that a dict of arrays needs and has none that calls anything. The names a file may
mention (numpy's array and dtype constructors, _codecs.encode) are symbols here, never functions.
"""

import pickletools
import reprlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar, cast

import numpy as np

from albert_runtime.errors import ArtifactError

from .wrappers import unwrapped

if TYPE_CHECKING:
    from hashlib import _Hash as Digest

_BLOCK = 1 << 22
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


class Refused(Exception):
    """The pickle holds something that no state dict needs."""


@dataclass(frozen=True)
class Symbol:
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
                raise Refused("an array whose state is not (version, shape, dtype, order, bytes)")
        if not all(type(size) is int and size >= 0 for size in shape):
            raise Refused("an array whose shape is not made of whole numbers")
        flat = np.frombuffer(data, np.dtype(dtype.order + dtype.code))
        self.value = flat.reshape(shape, order="F" if fortran else "C")


class Machine:
    """The stack machine for pickles of numpy arrays; ``run`` returns the object that STOP finds.

    A subclass gives other ``symbols`` and its own ``reduce`` and ``build``. ``keys``: types of a dict's keys.
    """

    symbols: ClassVar[Mapping[str, str]] = _SYMBOLS
    keys: ClassVar[tuple[type, ...]] = (str,)

    def __init__(self) -> None:
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}

    def run(self, file: BinaryIO) -> object:
        with warnings.catch_warnings():
            # Of the escape sequences in a damaged string: the reader's own errors say what matters.
            warnings.simplefilter("ignore", DeprecationWarning)
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
                raise Refused(f"the instruction {name}")
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
        if argument not in self.symbols:
            raise Refused(f"the name {argument.replace(' ', '.')[:100]!r}")
        self.stack.append(Symbol(self.symbols[argument]))

    def op_stack_global(self, _: object) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        # Formatting something else could take for ever: tuples of one tuple, twice, fifty deep.
        if not isinstance(name, str) or not isinstance(module, str):
            raise Refused("a name that is no string")
        self.op_global(f"{module} {name}")

    def op_reduce(self, _: object) -> None:
        arguments, symbol = self.stack.pop(), self.stack.pop()
        if not isinstance(symbol, Symbol) or not isinstance(arguments, tuple):
            raise Refused("a call that builds no array")
        self.stack.append(self.reduce(symbol.role, arguments))

    def reduce(self, role: str, arguments: tuple[object, ...]) -> object:
        """What calling the symbol ``role`` makes; Refused for any call that a state dict does not need."""
        match role, arguments:
            case "array", (Symbol("ndarray"), *_):
                return _Array()
            case "dtype", (str(code), *_) if code in _DTYPES:
                return _DType(code)
            case "dtype", (code, *_):
                raise Refused(f"the data type {reprlib.repr(code)[:40]}")
            case "encode", (str(text), "latin1"):
                return text.encode("latin1")
            case _:
                raise Refused("a call that builds no array")

    def op_build(self, _: object) -> None:
        state = self.stack.pop()
        self.build(self.stack[-1], state)

    def build(self, target: object, state: object) -> None:
        """Give ``target`` its pickled state; Refused for anything but an array's or a data type's."""
        match target, state:
            case _Array(), _:
                target.build(state)
            case _DType(), (_, ("<" | ">" | "|" | "=") as order, *_):
                target.order = order
            case _:
                raise Refused("a state for something that is no array")

    def op_setitems(self, _: object) -> None:
        items = self.pop_mark()
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise Refused("items for something that is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, self.keys):
                raise Refused(f"a dict key that is no string: {reprlib.repr(key)[:40]}")
            target[key] = value

    def op_setitem(self, _: object) -> None:
        self.marks.append(len(self.stack) - 2)
        self.op_setitems(None)

    def op_appends(self, _: object) -> None:
        items = self.pop_mark()
        target = self.stack[-1]
        if not isinstance(target, list):
            raise Refused("items for something that is no list")
        target.extend(items)

    def op_append(self, _: object) -> None:
        self.marks.append(len(self.stack) - 1)
        self.op_appends(None)


class _HashingReader:
    """A binary file whose bytes update ``digest`` as they are read."""

    def __init__(self, file: BinaryIO, digest: "Digest") -> None:
        self._file, self._digest = file, digest

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._digest.update(data)
        return data

    def readline(self) -> bytes:
        line = self._file.readline()
        self._digest.update(line)
        return line


def read_state_dict(path: Path, digest: "Digest | None" = None) -> dict[str, object]:
    """The dict pickled in ``path``: arrays by name, and any plain values stored beside them.

    Args:
        path: The file, which is read once. Nothing in it is ever called.
        digest: Updated with all bytes of the file.

    Returns:
        The values by name; arrays are read-only views of the bytes read.

    Raises:
        ArtifactError: The file is truncated, is no pickle, or holds anything but plain values and arrays.
    """
    with path.open("rb") as file:
        reader = file if digest is None else cast("BinaryIO", _HashingReader(file, digest))
        state = state_dict(run_pickle(Machine(), reader, path), path)
        if digest is not None:
            while block := file.read(_BLOCK):  # what may follow the pickle
                digest.update(block)
    return {name: value.value if isinstance(value, _Array) else value for name, value in state.items()}


def run_pickle(machine: Machine, file: BinaryIO, path: Path) -> object:
    """What ``machine`` makes of the pickle that ``file`` is at; ArtifactError naming ``path``."""
    try:
        return machine.run(file)
    except Refused as error:
        raise ArtifactError(
            f"{path} is refused: a checkpoint of arrays cannot hold {error}; "
            "get the file from a source you trust, or save its state dict alone"
        ) from None
    except MemoryError:
        raise ArtifactError(f"{path} asks for more memory than there is; it is damaged or hostile") from None
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise ArtifactError(
            f"{path} is truncated or no pickle ({_first_line(error)}); fetch the checkpoint again"
        ) from None


def state_dict(state: object, path: Path) -> dict[str, object]:
    """``state``, or the state dict that a training loop saved in it; ArtifactError naming ``path``."""
    if not isinstance(state, dict):
        raise ArtifactError(f"{path} holds a {type(state).__name__}, not a state dict of named arrays")
    found = dict(unwrapped(state))
    for name in found:
        if not isinstance(name, str):
            raise ArtifactError(f"{path} is refused: a dict key that is no string: {reprlib.repr(name)[:40]}")
    return found


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
