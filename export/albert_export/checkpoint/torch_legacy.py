"""Reads the pytorch_model.bin of torch before 1.6, in which the older checkpoints of the hub are still kept.

Five pickles one after another (magic number, version, machine, state dict, the storages' keys in order), then
the storages: each its number of elements in eight bytes, and its raw bytes.
"""

from pathlib import Path

from albert_runtime.errors import ArtifactError

from .pickle_machine import Machine, run_pickle, state_dict
from .stored_tensor import StoredTensors, shown
from .torch_pickle import Storage, TorchMachine, tensors_in

MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_VERSION = 1001


class _Storages:
    """Where the storages of one file begin."""

    def __init__(self, path: Path, starts: dict[str, int]) -> None:
        self.path, self.starts = path, starts

    def size(self, storage: Storage) -> int | None:
        """Bytes of a storage; None if there is none."""
        return storage.bytes if storage.key in self.starts else None

    def read(self, storage: Storage) -> bytes:
        """A storage's bytes."""
        with self.path.open("rb") as file:
            file.seek(self.starts[storage.key])
            data = file.read(storage.bytes)
        if len(data) != storage.bytes:
            raise ArtifactError(f"{self.path} became shorter while it was read")
        return data


def read_legacy(path: Path) -> StoredTensors:
    """The tensors of ``path``, unread; ArtifactError for a file that is damaged or hostile."""
    end = path.stat().st_size
    machine = TorchMachine()
    with path.open("rb") as file:
        file.seek(len(MAGIC))
        version, system = (run_pickle(Machine(), file, path) for _ in range(2))
        if version != _VERSION or not isinstance(system, dict) or system.get("little_endian") is not True:
            raise ArtifactError(
                f"{path} is of another version of torch or a big-endian machine; save it again"
            )
        state = state_dict(run_pickle(machine, file, path), path)
        keys = run_pickle(Machine(), file, path)
        starts: dict[str, int] = {}
        for key in keys if isinstance(keys, list) else ():
            storage = machine.storages.get(key) if isinstance(key, str) else None
            if storage is None or key in starts:
                raise ArtifactError(f"{path} holds a storage that no tensor names, or one twice")
            count = int.from_bytes(file.read(8), "little")
            starts[key] = file.tell()
            if count != storage.size or starts[key] + storage.bytes > end:
                raise ArtifactError(f"{path} is truncated: storage {shown(key)} is not whole")
            file.seek(storage.bytes, 1)
    return tensors_in(_Storages(path, starts), state)


def is_legacy(path: Path) -> bool:
    """Whether the file begins as that format does."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC
