"""An exported model on disk: found from any of its names, its files checked against the manifest."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ArtifactError
from ..files import FileState, sha256_file
from .manifest import SUFFIX, Manifest

PROGRAM_SUFFIXES = (".pdmodel", ".json")
_MAX_READ = 64 * 2**20  # of a tokenizer; the largest known have 20 MB


@dataclass(frozen=True, slots=True)
class Artifact:
    """The files of one exported model: STEM.manifest.json and what it names.

    ``manifest`` is None for a program that stands alone; its files are then known by their names only.
    ``files`` maps program, weights, onnx and tokenizer to paths, those that exist. ``path`` opens it again.
    All paths are absolute.

    Files may be replaced by those of another export at any time. So all that is read of them is read while a
    model is loaded, between ``open`` and ``check_unchanged``.
    """

    stem: str
    folder: Path
    manifest: Manifest | None
    files: dict[str, Path]
    path: Path
    _states: dict[Path, FileState] = field(default_factory=dict, repr=False, compare=False)
    _verified: set[str] = field(default_factory=set, repr=False, compare=False)

    @staticmethod
    def open(path: str | os.PathLike[str]) -> "Artifact":
        """Find an artifact from one of its files, its stem or its folder, and check that its files are whole.

        Checked are the manifest and that every file it names exists with the recorded size; ``verify``
        compares contents too. ArtifactError names the file that is missing, of another size or not
        understood.
        """
        given = Path(os.fsdecode(path))
        try:
            return _open(given)
        except OSError as error:
            raise ArtifactError(f"{given}: cannot be read ({error.strerror})") from None
        except ValueError as error:  # a NUL in the path
            raise ArtifactError(f"{str(given)!r}: {error}") from None

    def verify(self) -> None:
        """Compare the sha256 of every file with the manifest; ArtifactError names the one that differs."""
        if self.manifest is None:
            raise ArtifactError(
                f"{self.stem} has no {self.stem}{SUFFIX} to verify it with; export the model again"
            )
        for role in self.manifest.files:
            self.verify_file(role)

    def verify_file(self, role: str) -> None:
        """As ``verify`` for one file; one found good is not read again, but must still be that file."""
        if self.manifest is None:
            return
        if role not in self._verified:
            try:
                actual = sha256_file(self.files[role])
            except OSError as error:
                raise _unreadable(self.files[role], error) from None
            self._compare(role, actual)
        self.check_unchanged()

    def read(self, role: str) -> bytes:
        """The content of a small file, found to be what the manifest says.

        ArtifactError if it is not, or is larger than 64 MiB.
        """
        path = self.files[role]
        try:
            with path.open("rb") as file:
                content = file.read(_MAX_READ + 1)
        except OSError as error:
            raise _unreadable(path, error) from None
        if len(content) > _MAX_READ:
            raise ArtifactError(
                f"{path} is larger than {_MAX_READ >> 20} MiB; it is no {role} of albert-export"
            )
        self._compare(role, hashlib.sha256(content).hexdigest())
        return content

    def check_unchanged(self) -> None:
        """Call when all is loaded: ArtifactError if a file was replaced or written to since ``open``."""
        for path, state in self._states.items():
            try:
                now = FileState.of(path)
            except OSError as error:
                raise _unreadable(path, error) from None
            if now != state:
                raise ArtifactError(f"{path} was replaced while the model was loaded; load it again")

    def _compare(self, role: str, actual: str) -> None:
        if self.manifest is None:
            return
        expected = self.manifest.files[role].sha256
        if actual != expected:
            self.check_unchanged()  # else it was this way before
            raise ArtifactError(
                f"{self.files[role]} is corrupted (sha256 {actual[:12]}... instead of {expected[:12]}...); "
                "restore it or export the model again"
            )
        self._verified.add(role)


def _unreadable(path: Path, error: OSError) -> ArtifactError:
    return ArtifactError(f"{path}: cannot be read ({error.strerror})")


def _open(given: Path) -> Artifact:
    found = {stem_path for stem_path in _stems(given) if _manifest_path(stem_path).is_file()}
    if given.is_dir():
        found |= {_without(path, SUFFIX) for path in given.glob(f"*{SUFFIX}") if path.is_file()}
    if len(found) > 1:
        names = ", ".join(sorted(str(_manifest_path(stem_path)) for stem_path in found))
        raise ArtifactError(f"{given} fits several artifacts; name one of {names}")
    if found:
        return _with_manifest(given, found.pop())
    return _bare(given)


def _with_manifest(given: Path, stem_path: Path) -> Artifact:
    states = _states([_manifest_path(stem_path)])
    manifest = Manifest.read(_manifest_path(stem_path))
    folder = stem_path.parent
    files = {role: folder / record.name for role, record in manifest.files.items()}
    named = {path.name for path in files.values()} | {stem_path.name, _manifest_path(stem_path).name}
    if not given.is_dir() and given.name not in named:
        raise ArtifactError(
            f"{given} is no file of {_manifest_path(stem_path).name}, which names {_listing(files.values())};"
            " pass one of those, or export the model again"
        )
    for role, record in manifest.files.items():
        path = files[role]
        if not path.is_file():
            raise ArtifactError(f"{path} is missing; restore it or export the model again")
        size = path.stat().st_size
        if size != record.size:
            state = "truncated" if size < record.size else "not the exported file"
            raise ArtifactError(
                f"{path} is {state} ({size} bytes instead of {record.size}); "
                "restore it or export the model again"
            )
    states |= _states(files.values())
    return _absolute(stem_path, manifest, files, _manifest_path(stem_path), states)


def _bare(given: Path) -> Artifact:
    """A program without manifest: the named file, or what has the stem, or what lies alone in the folder."""
    if given.is_dir():
        programs = [path for path in sorted(given.iterdir()) if _may_be_program(path)]
        stem_paths = {path.with_suffix("") for path in programs}
        if not stem_paths:
            raise ArtifactError(f"{given} holds no exported model; make one with albert-export -o {given}")
        if len(stem_paths) > 1:
            raise ArtifactError(f"{given} holds several programs; name one of {_listing(programs)}")
        stem_path = stem_paths.pop()
    else:
        stem_path = _stems(given)[0]
        if given != stem_path and not given.is_file():
            raise ArtifactError(f"{given} does not exist; export it with albert-export")
    candidates = [_with(stem_path, suffix) for suffix in (*PROGRAM_SUFFIXES, ".onnx")]
    found = [path for path in candidates if path == given or _may_be_program(path)]
    if not found and given.is_file():
        raise ArtifactError(
            f"{given} is no program; pass a .pdmodel, .json, .onnx or {SUFFIX} file, or the folder"
        )
    if not found:
        raise ArtifactError(f"neither {given} nor {given.name}{SUFFIX} exists; export it with albert-export")
    files = _bare_files(given, stem_path, found)
    return _absolute(stem_path, None, files, given, _states(files.values()))


def _absolute(
    stem_path: Path,
    manifest: Manifest | None,
    files: dict[str, Path],
    path: Path,
    states: dict[Path, FileState],
) -> Artifact:
    """The artifact, which a change of the current folder does not move."""
    return Artifact(
        stem_path.name,
        stem_path.parent.absolute(),
        manifest,
        {role: file.absolute() for role, file in files.items()},
        path.absolute(),
        {file.absolute(): state for file, state in states.items()},
    )


def _states(paths: Iterable[Path]) -> dict[Path, FileState]:
    return {path: FileState.of(path) for path in paths}


def _bare_files(given: Path, stem_path: Path, found: list[Path]) -> dict[str, Path]:
    weights, tokenizer = _with(stem_path, ".pdiparams"), _with(stem_path, ".tokenizer.json")
    programs = [path for path in found if path.suffix in PROGRAM_SUFFIXES]
    files = {"onnx": path for path in found if path not in programs}  # noqa: B035 - at most one
    if given in programs or not files:
        program = given if given in programs else programs[0]
        if not weights.is_file():
            raise ArtifactError(
                f"{program} needs {weights.name} beside it; restore it or export the model again"
            )
        files |= {"program": program, "weights": weights}
    elif programs and weights.is_file():
        files |= {"program": programs[0], "weights": weights}
    if tokenizer.is_file():
        files["tokenizer"] = tokenizer
    return files


def _may_be_program(path: Path) -> bool:
    """A .json says nothing by its name: it counts as a program if weights lie beside it."""
    if path.suffix == ".json":
        return path.is_file() and path.with_suffix(".pdiparams").is_file()
    return path.suffix in (".pdmodel", ".onnx") and path.is_file()


def _stems(given: Path) -> list[Path]:
    """What ``given`` may be the stem of, or a file of: paths without suffix."""
    for suffix in (SUFFIX, ".onnx", *PROGRAM_SUFFIXES):
        if given.name.endswith(suffix) and given.name != suffix:
            return [_without(given, suffix)]
    return [given] if given.name else []  # "." and "/" are folders, the stem of nothing


def _manifest_path(stem_path: Path) -> Path:
    return _with(stem_path, SUFFIX)


def _with(stem_path: Path, suffix: str) -> Path:
    return stem_path.with_name(stem_path.name + suffix)


def _without(path: Path, suffix: str) -> Path:
    return path.with_name(path.name[: -len(suffix)])


def _listing(paths: Iterable[Path]) -> str:
    return ", ".join(sorted(path.name for path in paths))
