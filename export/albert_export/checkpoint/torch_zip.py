"""Reads pytorch_model.bin, the zip archive that torch.save writes, without torch and without unpickling.

The archive holds one pickle, data.pkl, and one member of raw bytes per storage. Members must be stored
uncompressed, as torch writes them, so that no small file can ask for much memory.
"""

import contextlib
import errno
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from albert_runtime.errors import ArtifactError

from .pickle_machine import run_pickle, state_dict
from .stored_tensor import StoredTensors, shown
from .torch_pickle import Storage, TorchMachine, tensors_in

_MAX_PICKLE_BYTES = 1 << 26
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
)


class _Archive:
    """The members of one archive; each is read whole and checked against its checksum."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _told_in_one_line(path), zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
        # torch puts everything in one folder, whose name is the file's.
        root = next((info.filename[: -len("data.pkl")] for info in infos if _is_pickle(info)), None)
        if root is None:
            raise ArtifactError(f"{path} is no torch archive: it holds no data.pkl")
        self.members: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            name = info.filename.removeprefix(root)
            if name in self.members:
                raise ArtifactError(f"{path} is refused: it holds {shown(name)} twice")
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                raise ArtifactError(f"{path} is refused: its member {shown(name)} is compressed")
            self.members[name] = info

    def size(self, storage: Storage) -> int | None:
        """Bytes of a storage's member; None if there is none."""
        info = self.members.get(f"data/{storage.key}")
        return None if info is None else info.file_size

    def read(self, storage: Storage) -> bytes:
        """A storage's bytes."""
        return self.member(f"data/{storage.key}")

    def member(self, name: str) -> bytes:
        """A member's bytes."""
        with _told_in_one_line(self.path), zipfile.ZipFile(self.path) as archive:
            return archive.read(self.members[name])


def _is_pickle(info: zipfile.ZipInfo) -> bool:
    return info.filename == "data.pkl" or info.filename.endswith("/data.pkl")


@contextlib.contextmanager
def _told_in_one_line(path: Path) -> Iterator[None]:
    """Whatever zipfile raises for a damaged file, as an ArtifactError."""
    try:
        yield
    except (*_ZIP_ERRORS, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise  # of the disk, not of the file's contents; EINVAL is a seek to a negative offset
        reason = " ".join(str(error).split())[:80]
        message = f"{path} is truncated or no torch archive ({reason}); fetch the checkpoint again"
        raise ArtifactError(message) from None


def read_zip(path: Path) -> StoredTensors:
    """The tensors of ``path``, unread; ArtifactError for a file that is damaged or hostile."""
    archive = _Archive(path)
    if archive.members["data.pkl"].file_size > _MAX_PICKLE_BYTES:
        raise ArtifactError(f"{path} is refused: its data.pkl is far larger than names and shapes can be")
    if "byteorder" in archive.members and archive.member("byteorder") != b"little":
        raise ArtifactError(f"{path} was written on a big-endian machine; save it again on this one")
    state = run_pickle(TorchMachine(), io.BytesIO(archive.member("data.pkl")), path)
    return tensors_in(archive, state_dict(state, path))
