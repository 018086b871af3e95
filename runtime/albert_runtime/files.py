"""Files on disk: their checksums, writing them atomically, and the cache folder they are kept in."""

import hashlib
import os
import re
import threading
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_BLOCK = 2**20
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._-]")
_MAX_NAME = 100


def is_utf8(path: Path) -> bool:
    """Whether a path is text; Linux allows any bytes, other people's C++ often only these."""
    return not any("\ud800" <= character <= "\udfff" for character in str(path))


def sha256_file(path: Path, offset: int = 0, length: int | None = None) -> str:
    """Hash a file, or a range of it, without reading it into memory at once.

    Args:
        path: The file.
        offset: Bytes to skip.
        length: Bytes to hash; None = up to the end of the file.

    Returns:
        The SHA-256 as 64 hexadecimal digits.

    Raises:
        OSError: The file cannot be read.
    """
    digest = hashlib.sha256()
    block = memoryview(bytearray(_BLOCK))
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while length is None or length > 0:
            size = file.readinto(block if length is None else block[:length])
            if not size:
                break
            digest.update(block[:size])
            length = None if length is None else length - size
    return digest.hexdigest()


class FileState(NamedTuple):
    """What tells whether a path still leads to the same file, and whether that was written to or renamed.

    The times are in nanoseconds; ``changed`` (st_ctime_ns) is set by the system alone, at a renaming too.
    """

    device: int
    inode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, path: Path) -> "FileState":
        """The state of a file now; OSError if there is none."""
        found = path.stat()
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file such that other processes, and this one after a crash, see the old content or the new.

    Args:
        path: The file; its folder must exist.
        data: The whole content.

    Raises:
        OSError: The file cannot be written; what was there before is untouched.
    """
    # The name is unique to the writer: two that write at once must not share a temporary file.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.new")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def cache_root() -> Path | None:
    """The folder of everything that albert-runtime caches.

    Returns:
        ``$XDG_CACHE_HOME/albert-runtime``, or ``~/.cache/albert-runtime`` where the variable is unset, empty
        or a relative path (the XDG specification says to ignore those). None if there is no home folder.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        try:
            base = Path.home().absolute() / ".cache"
        except RuntimeError:
            return None
    return base / "albert-runtime"


def cache_folder(kind: str) -> Path | None:
    """The folder of one kind of cached file, ``cache_root()/kind``; None if there is no home folder."""
    root = cache_root()
    return None if root is None else root / kind


def cache_name(model: str, digest: str) -> str:
    """A file name MODEL-DIGEST, safe for any model name: a manifest may come from anywhere."""
    return f"{_NOT_PLAIN.sub('_', model)[:_MAX_NAME]}-{digest[:16]}"
