"""Programs that other tools wrote."""

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

FILES = Path(__file__).parent / "files"


@pytest.fixture(scope="session")
def stored_program(make_once) -> Callable[[str], Path]:
    """stored_program("TOOL/NAME") -> the folder of a program in one of the archives, not to be written to.

    It holds the program and its weights, io.npz with inputs in/NAME/I and outputs out/NAME/I of batches I,
    source.json and source.npz, config and state dict of the model it was made of. ``make`` has the scripts.
    """

    def unpack(folder: Path) -> None:
        for file in FILES.glob("*.tar.xz"):
            with tarfile.open(file) as archive:
                archive.extractall(folder, filter="data")

    def unpacked(name: str) -> Path:
        folder = make_once("stored-programs", unpack) / name
        assert folder.is_dir(), name
        return folder

    return unpacked
