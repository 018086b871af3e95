"""What the load tools' commands share: the arguments, and how a measurement ends."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from albert_runtime import AlbertError

from ..output import report_error, write_json
from ..process import ProcessFailed


def parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """A parser with the artifact and the output folder."""
    found = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    found.add_argument("artifact", type=Path, help="an exported encoder")
    found.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        type=Path,
        default=Path("albert-bench"),
        help="folder for the results (default: albert-bench)",
    )
    return found


def measure_to(path: Path, measure: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """Measure and write the results as JSON; None if that failed, with the error printed."""
    try:
        results = measure()
    except (AlbertError, ProcessFailed) as error:
        report_error(str(error), 1)
        return None
    write_json(results, path)
    return results
