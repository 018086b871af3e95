"""Packed weights kept in files, which all processes of a user map, so that they share memory and pack once.

A file is named by the model and by a hash of all that packed weights depend on, the extension among it; what
is in a file is checked by the engine. Files that nobody has used for a month go when another is written.

ALBERT_PACKED_CACHE=0 keeps none, ALBERT_PACKED_CACHE=DIR keeps them there instead of in $XDG_CACHE_HOME, or
~/.cache, /albert-runtime/packed.
"""

import hashlib
import json
import logging
import os
import re
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from .. import _native
from ..artifact.manifest import Manifest
from ..files import cache_folder, cache_name, is_utf8, sha256_file

_log = logging.getLogger("albert_runtime")

VARIABLE = "ALBERT_PACKED_CACHE"
_UNUSED_DAYS, _ABANDONED_HOURS = 30, 1
_MAGIC = b"ALBPACK\0"  # as in csrc/engine/arena.cc
_NAME = re.compile(r"[A-Za-z0-9._-]*-[0-9a-f]{16}\.bin(?P<unfinished>\.[A-Za-z0-9]{6})?")


def _hash_of_extension() -> str | None:
    try:
        return sha256_file(Path(_native.__file__))
    except OSError:
        return None


# At import: the file may be replaced while a process runs, and would then be another than the one in use.
_EXTENSION = _hash_of_extension()


@dataclass(frozen=True)
class PackedFile:
    """Where the packed weights of one engine are kept, and the key that the file must have."""

    path: Path
    key: bytes

    @staticmethod
    def of(manifest: Manifest, precision: str, isa: str) -> "PackedFile | None":
        """The file of an engine, in a folder that is made if need be; None if no files are kept."""
        folder = _folder()
        if folder is None or _EXTENSION is None or not is_utf8(folder):
            return None
        parts = {
            "weights": manifest.files["weights"].sha256,
            "precision": precision,
            "isa": isa,
            "config": manifest.config.to_dict(),
            "head": asdict(manifest.head),
            "tensors": [asdict(tensor) for tensor in manifest.tensors],
            "extension": _EXTENSION,
        }
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
        with suppress(OSError):  # the engine says what is wrong with it
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = cache_name(manifest.name, digest.hexdigest())
        return PackedFile(folder / f"{name}.bin", digest.digest())

    def used(self, engine: _native.Engine) -> None:
        """Call with the engine that was made with this file: notes the use, and tells what was wrong."""
        if engine.cache_problem:
            done = "it is replaced" if engine.packed_file else "not used, the weights are in memory"
            _log.warning("packed weights %s: %s; %s", self.path, engine.cache_problem, done)
        if not engine.packed_file:
            return
        with suppress(OSError):
            os.utime(self.path)
        if not engine.found_packed:
            _remove_unused(self.path.parent)


def _folder() -> Path | None:
    given = os.environ.get(VARIABLE, "")
    if given == "0":
        return None
    if given not in ("", "1"):
        return Path(given).absolute()
    return cache_folder("packed")


def _remove_unused(folder: Path) -> None:
    with suppress(OSError):
        for path in folder.iterdir():
            if (name := _NAME.fullmatch(path.name)) is None:
                continue
            limit = _ABANDONED_HOURS * 3600 if name["unfinished"] else _UNUSED_DAYS * 86400
            with suppress(OSError):
                if time.time() - path.lstat().st_mtime > limit and _is_ours(path):
                    path.unlink()


def _is_ours(path: Path) -> bool:
    # The folder may hold other files too.
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC
