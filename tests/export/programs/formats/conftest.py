"""Small programs of every operator."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "small_programs.py"


@pytest.fixture(scope="session")
def small_programs(make_once) -> Callable[[str], Path]:
    """small_programs("pdmodel" or "json") -> a folder with a folder for each operator; see the script."""

    def made(form: str) -> Path:
        if importlib.util.find_spec("paddle") is None:
            pytest.skip("Paddle, which makes these programs, is not installed here")

        def make(folder: Path) -> None:
            done = subprocess.run(
                [sys.executable, str(SCRIPT), form, str(folder)],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr[-2000:]

        return make_once(f"small-programs-{form}", make)

    return made
