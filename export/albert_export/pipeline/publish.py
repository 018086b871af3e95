"""Files appear complete or not at all: a hidden staging folder, then renames, the manifest last."""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from albert_runtime.files import is_utf8

from ..errors import ExportError
from ..names import ALL_SUFFIXES, MANIFEST_SUFFIX, PROGRAM_SUFFIXES, human_size

STAGING_PREFIX = ".albert-export-"


@contextlib.contextmanager
def staging_folder(directory: Path) -> Iterator[Path]:
    """A hidden folder in ``directory`` (which is made if need be), gone when the block ends, however it ends.

    What exports that were killed left behind in ``directory`` is swept away first.
    """
    made = _make(directory)
    descriptor = None
    folder = None
    try:
        with _locked(directory):
            _sweep(directory)
            folder = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=directory))
            # The lock ends with this process, also if it is killed; then the next export sweeps the folder.
            descriptor = os.open(folder, os.O_RDONLY)
            _try_lock(descriptor)
        yield folder
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()


def check_target(directory: Path, stem: str, *, force: bool) -> None:
    """ExportError if an artifact of this name is there and may not be, or cannot be, replaced.

    Nor can there be one where Paddle opens no file: behind a path that is not UTF-8.
    """
    if not is_utf8(directory):
        raise ExportError(f"{str(directory)!r} is not UTF-8, where Paddle cannot write; choose another -o")
    existing = [
        f"{stem}{suffix}" for suffix in ALL_SUFFIXES if os.path.lexists(directory / f"{stem}{suffix}")
    ]
    for name in existing:
        if (directory / name).is_dir() and not (directory / name).is_symlink():
            raise ExportError(f"{directory / name} is a folder; choose another --name or -o")
    if existing and not force:
        raise ExportError(
            f"{directory / existing[0]} exists; replace the artifact with --force, "
            "or choose another --name or -o"
        )


def check_kept(directory: Path, stem: str, sources: Sequence[Path]) -> None:
    """ExportError if an artifact of this name would replace one of the files that it is made from."""
    for suffix in ALL_SUFFIXES:
        path = directory / f"{stem}{suffix}"
        if any(path.exists() and path.samefile(source) for source in sources):
            raise ExportError(f"{path} is what the artifact is made from; choose another --name or -o")


def check_space(directory: Path, needed: int) -> None:
    """ExportError if ``directory`` (or what exists of its path) has fewer than ``needed`` bytes free."""
    place = next(folder for folder in (directory, *directory.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise ExportError(
            f"{directory} has {human_size(free)} free, the export needs {human_size(needed)}; "
            "free some or choose another folder with -o"
        )


def publish(folder: Path, directory: Path, stem: str, files: Sequence[str], *, force: bool) -> None:
    """Move the finished ``files`` to ``directory``; the manifest, without which nothing counts, last.

    If that fails, what was there before is put back.
    """
    manifest = f"{stem}{MANIFEST_SUFFIX}"
    arriving = [*(name for name in files if name != manifest), manifest]
    aside = folder / "replaced"
    aside.mkdir()
    with _locked(directory):
        check_target(directory, stem, force=force)
        leaving = [name for name in _replaced(directory, stem) if os.path.lexists(directory / name)]
        try:
            for name in leaving:
                (directory / name).replace(aside / name)
            for name in arriving:
                (folder / name).replace(directory / name)
        except BaseException:
            for name in arriving:
                if not (folder / name).exists():
                    (directory / name).unlink(missing_ok=True)
            for name in reversed(leaving):
                if os.path.lexists(aside / name):
                    (aside / name).replace(directory / name)
            raise


def _replaced(directory: Path, stem: str) -> list[str]:
    """Files of the artifact that --force replaces, its manifest first: from then on it is no artifact."""
    manifest = f"{stem}{MANIFEST_SUFFIX}"
    try:
        listed = json.loads((directory / manifest).read_bytes())["files"].values()
        names = [str(entry["name"]) for entry in listed]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        names = []
    # STEM.json may be another program's file: it goes only if the old manifest says that it is the model.
    own = {f"{stem}{suffix}" for suffix in ALL_SUFFIXES}
    sure = own - {f"{stem}{PROGRAM_SUFFIXES['json']}", manifest}
    return [manifest, *sorted(sure | (own.intersection(names) - {manifest}))]


def _make(directory: Path) -> list[Path]:
    """Make ``directory``; the folders made, innermost first."""
    missing = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    return missing


def _sweep(directory: Path) -> None:
    for folder in directory.glob(f"{STAGING_PREFIX}*"):
        if folder.is_symlink() or not folder.is_dir():
            continue
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            if _try_lock(descriptor):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    """Whether the lock on an open folder was free and is now held; False where folders cannot be locked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """One export at a time in ``directory``, for the short steps that must not interleave."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            # Some network file systems cannot lock a folder; two exports of one name then are on their own.
            if error.errno not in (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL):
                raise
        yield
    finally:
        os.close(descriptor)
