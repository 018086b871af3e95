"""What both of torch's file formats share: a pickle that describes tensors as views of storages.

The pickle goes through the same restricted machine as .pdparams. A storage is a run of raw bytes elsewhere in
the file; a view is believed once it is known to lie within it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from albert_runtime.errors import ArtifactError

from .pickle_machine import Machine, Refused, Symbol
from .stored_tensor import StoredTensor, StoredTensors, shown

# Storage class -> (numpy's name or bfloat16, the type its bytes are read as)
_STORAGES = {
    "FloatStorage": ("float32", "<f4"),
    "HalfStorage": ("float16", "<f2"),
    "BFloat16Storage": ("bfloat16", "<u2"),
    "DoubleStorage": ("float64", "<f8"),
    "LongStorage": ("int64", "<i8"),
    "IntStorage": ("int32", "<i4"),
    "ByteStorage": ("uint8", "|u1"),
    "BoolStorage": ("bool", "|b1"),
}


@dataclass(frozen=True)
class Storage:
    """``size`` elements of a type, named by ``key``."""

    key: str
    kind: str
    size: int

    @property
    def read_as(self) -> np.dtype[Any]:
        """The type that its bytes are read as."""
        return np.dtype(_STORAGES[self.kind][1])

    @property
    def bytes(self) -> int:
        """How long it is in the file."""
        return self.size * self.read_as.itemsize


@dataclass(frozen=True)
class _View:
    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class TorchMachine(Machine):
    """Makes dicts of views; an OrderedDict is a dict, and the metadata that torch hangs on it is dropped."""

    symbols: ClassVar[Mapping[str, str]] = {
        "collections OrderedDict": "dict",
        "torch._utils _rebuild_tensor_v2": "tensor",
        "torch._utils _rebuild_parameter": "parameter",
        **{f"torch {name}": name for name in _STORAGES},
    }
    keys: ClassVar[tuple[type, ...]] = (str, int)  # numbers: of an optimizer's state, beside the model's

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[str, Storage] = {}

    def op_binpersid(self, _: object) -> None:
        match self.stack.pop():
            case ("storage", Symbol(kind), str(key), str(), int(size), *rest) if kind in _STORAGES:
                if rest not in ([], [None]):  # the older format's views of storages
                    raise Refused("a storage within a storage")
                storage = Storage(key, kind, size)
                if self.storages.setdefault(key, storage) != storage:
                    raise Refused("a storage of two types or sizes")
                self.stack.append(storage)
            case _:
                raise Refused("a reference to something that is no storage")

    def reduce(self, role: str, arguments: tuple[object, ...]) -> object:
        match role, arguments:
            case "dict", ():
                return {}
            case "tensor", (Storage() as storage, int(offset), tuple(shape), tuple(strides), *_):
                numbers = (offset, *shape, *strides)
                if not all(type(number) is int and number >= 0 for number in numbers):
                    raise Refused("a tensor whose shape is not made of whole numbers")
                if len(shape) != len(strides) or len(shape) > 8:
                    raise Refused("a tensor whose strides do not fit its shape")
                return _View(storage, offset, shape, strides)
            case "parameter", (_View() as view, *_):
                return view
            case _:
                raise Refused("a call that builds no tensor")

    def build(self, target: object, state: object) -> None:
        if not isinstance(target, dict) or not isinstance(state, dict) or set(state) - {"_metadata"}:
            raise Refused("a state for something that is no state dict")


class StorageFile(Protocol):
    """A file that storages lie in."""

    path: Path

    def size(self, storage: Storage) -> int | None:
        """Bytes that the file has for a storage; None if it has no such one."""

    def read(self, storage: Storage) -> bytes:
        """Those bytes; ArtifactError if they cannot be read."""


def tensors_in(file: StorageFile, state: Mapping[str, object]) -> StoredTensors:
    """The views of ``state`` as tensors, unread, beside whatever else it holds."""
    return {
        name: _tensor(file, name, value) if isinstance(value, _View) else value
        for name, value in state.items()
    }


def _tensor(file: StorageFile, name: str, view: _View) -> StoredTensor:
    storage = view.storage
    if file.size(storage) != storage.bytes:
        raise ArtifactError(f"{file.path} holds no storage of the right size for {shown(name)}")
    count = math.prod(view.shape)
    last = view.offset + sum(
        (size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True)
    )
    # More elements than the storage has would be an expanded view, a few bytes posing as a large tensor.
    if count > storage.size or (count > 0 and last >= storage.size):
        raise ArtifactError(f"{file.path} is refused: {shown(name)} reaches beyond its storage")

    def raw() -> np.ndarray:
        if count == 0:
            return np.zeros(view.shape, storage.read_as)
        values = np.frombuffer(file.read(storage), storage.read_as)
        strides = tuple(stride * values.itemsize for stride in view.strides)
        return np.lib.stride_tricks.as_strided(values[view.offset :], view.shape, strides, writeable=False)

    return StoredTensor(file.path, name, view.shape, _STORAGES[storage.kind][0], raw)
