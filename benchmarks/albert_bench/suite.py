"""`make bench`: the comparison behind the repository's table, on variants exported with seeded weights."""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from albert_runtime.backends.registry import available_cpus

from .cli import UsageError, add_common, complain, contenders, measure, say, settings
from .compare import Plan
from .workload import NAMES, QUICK

_PROGRAM = "python -m albert_bench.suite"
_FAILED, _USAGE = 1, 2
_MAX_THREADS = 16


@dataclass(frozen=True, slots=True)
class Subject:
    """A variant, the work it is measured on with all threads, and that with 1, 2, 4... fewer."""

    variant: str
    work: tuple[str, ...]
    fewer: tuple[str, ...] = ()
    memory: bool = False


FULL = (
    Subject("albert-base-v2", NAMES, ("1x16", "1x32", "1x128", "8x128", "mixed 32"), memory=True),
    Subject("albert-large-v2", ("1x128", "8x128", "mixed 32"), memory=True),
    Subject("albert-chinese-tiny", ("1x128", "8x128", "mixed 32")),
    Subject("albert-xlarge-v2", ("8x128",)),
    Subject("albert-xxlarge-v2", (), memory=True),
)
SHORT = (Subject("albert-base-v2", QUICK),)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        chosen = contenders(options.only, options.precision)
    except UsageError as error:
        return complain(str(error), _USAGE)
    cpus = available_cpus()
    plans = []
    for subject in SHORT if options.quick else FULL:
        try:
            artifact = _export(subject.variant, options.models)
        except subprocess.CalledProcessError as error:
            return complain(f"albert-export {subject.variant} ended with {error.returncode}", _FAILED)
        *fewer, most = counts(cpus)
        work = {**{count: subject.fewer for count in fewer}, most: subject.work}
        plans.append(Plan(artifact, work, subject.memory))
    return measure(plans, chosen, settings(options), options.output)


def counts(cpus: int) -> tuple[int, ...]:
    """Numbers of threads to measure: powers of two below the number of CPUs, and that, at most 16."""
    most = min(cpus, _MAX_THREADS)
    return (*(2**power for power in range(5) if 2**power < most), most)


def _export(variant: str, folder: Path) -> Path:
    """The variant with seeded weights, exported into ``folder`` unless it is there already."""
    artifact = folder / f"{variant}.manifest.json"
    if not artifact.exists():
        say(f"exporting {variant}")
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "albert_export.cli", variant, "--random-weights", "-o", str(folder)]
        subprocess.run([*command, "--force", "--quiet"], check=True)
    return artifact


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=_PROGRAM, description=__doc__, allow_abbrev=False)
    add_common(parser)
    parser.add_argument(
        "--models", metavar="DIR", type=Path, required=True, help="folder of the exported models"
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, required=True, help="folder of the results"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
