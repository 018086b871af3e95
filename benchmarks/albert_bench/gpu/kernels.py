"""Which kernels take the most time, and what holds the two slowest back? Asks Nsight Compute's ncu."""

import argparse
import csv
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from albert_runtime import AlbertError

from ..output import report_error
from ..report import table
from ..seeded import seeded_artifact
from .cases import BASE

_PROGRAM = "python -m albert_bench.gpu.kernels"
# Names without parameters, as --kernel-name takes them.
_NCU_OPTIONS = ("--profile-from-start", "off", "--target-processes", "all", "--print-kernel-base", "function")
_TIME = "gpu__time_duration.sum"
_LOOKED_INTO = 2
_KERNEL, _GRID = "Kernel Name", "Grid Size"


@dataclass(frozen=True, slots=True)
class KernelTime:
    """A kernel's launches on one grid in one forward pass, and their nanoseconds together.

    Products of different sizes are launches of one kernel and differ in their grids. ``first``: the place of
    the first of these launches among all of the pass.
    """

    name: str
    grid: str
    first: int
    launches: int
    nanoseconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = argparse.ArgumentParser(prog=_PROGRAM, description=__doc__)
    parser.add_argument(
        "--models", metavar="DIR", type=Path, required=True, help="folder for the seeded models"
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, required=True, help="folder for the results"
    )
    options = parser.parse_intermixed_args(arguments)
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        forward = [
            sys.executable,
            "-m",
            "albert_bench.gpu.forward",
            str(seeded_artifact(options.models, BASE)),
        ]
        printed = _ncu(["--metrics", _TIME, "--print-units", "base", "--csv", "--page", "raw"], forward)
        times = kernel_times(printed.splitlines())
        if not times:
            raise AlbertError(f"ncu saw no kernel: {printed[-300:]}")
        text = markdown(times)
        (options.output / "kernels.md").write_text(text, encoding="utf-8")
        print(text)
        for place, one in enumerate(times[:_LOOKED_INTO], 1):
            chosen = ["--launch-skip", str(one.first), "--launch-count", "1"]
            details = _ncu([*chosen, "--set", "full", "--page", "details"], forward)
            (options.output / f"kernels-ncu-{place}.txt").write_text(details, encoding="utf-8")
    except (AlbertError, OSError) as error:
        return report_error(str(error), 1)
    return 0


def kernel_times(lines: Iterable[str]) -> list[KernelTime]:
    """The kernels in ncu's CSV of one line a launch, the slowest first; what precedes the CSV is skipped."""
    found: dict[tuple[str, str], list[tuple[int, float]]] = {}
    rows = csv.DictReader(line for line in lines if line.startswith('"'))
    launches = (row for row in rows if row[_KERNEL])  # the second line holds units
    for place, row in enumerate(launches):
        taken = float(row[_TIME].replace(",", ""))
        found.setdefault((row[_KERNEL], row[_GRID]), []).append((place, taken))
    times = [
        KernelTime(name, grid, taken[0][0], len(taken), sum(one for _, one in taken))
        for (name, grid), taken in found.items()
    ]
    return sorted(times, key=lambda one: -one.nanoseconds)


def markdown(times: Sequence[KernelTime]) -> str:
    """The kernels of one forward pass as a table, with their shares of the time."""
    total = sum(one.nanoseconds for one in times)
    rows = [
        [
            one.name,
            one.grid,
            str(one.launches),
            f"{one.nanoseconds / 1e3:,.1f}",
            f"{100 * one.nanoseconds / total:.1f} %",
        ]
        for one in times
    ]
    return table(("kernel", "grid", "launches", "us", "share"), rows, 2) + "\n"


def _ncu(options: Sequence[str], command: Sequence[str]) -> str:
    """What ncu prints of the part of the command that asks to be profiled."""
    program = shutil.which("ncu")
    if program is None:
        raise AlbertError("ncu is not installed; it comes with NVIDIA's CUDA toolkit")
    run = subprocess.run(
        [program, *_NCU_OPTIONS, *options, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        raise AlbertError(f"ncu ended with {run.returncode}: {run.stdout[-300:]}")
    return run.stdout


if __name__ == "__main__":
    sys.exit(main())
