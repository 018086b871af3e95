"""`make bench`: measure the results kept in this repository, on variants exported with seeded weights."""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from albert_runtime.threads import available_cpus

from .cli import UsageError, add_common, choose_contenders, measure, settings
from .compare import Plan, thread_counts
from .output import log, report_error
from .workload import QUICK, STANDARD

_PROGRAM = "python -m albert_bench.suite"
_FAILED, _USAGE = 1, 2


@dataclass(frozen=True, slots=True)
class Case:
    """A variant of the model and what to measure of it.

    Attributes:
        variant: Its name.
        workloads: Names of the workloads on all threads.
        fewer_threads: Those on 1, 2, 4... threads.
        memory: Whether to measure load time and memory.
    """

    variant: str
    workloads: tuple[str, ...]
    fewer_threads: tuple[str, ...] = ()
    memory: bool = False


FULL = (
    Case("albert-base-v2", STANDARD, ("1x16", "1x32", "1x128", "8x128", "mixed 32"), memory=True),
    Case("albert-large-v2", ("1x128", "8x128", "mixed 32"), memory=True),
    Case("albert-chinese-tiny", ("1x128", "8x128", "mixed 32")),
    Case("albert-xlarge-v2", ("8x128",)),
    Case("albert-xxlarge-v2", (), memory=True),
)
SHORT = (Case("albert-base-v2", QUICK),)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    options = _parser().parse_intermixed_args(arguments)
    try:
        chosen = choose_contenders(options.only, options.precision)
    except UsageError as error:
        return report_error(str(error), _USAGE)
    cpus = available_cpus()
    plans = []
    for case in SHORT if options.quick else FULL:
        try:
            artifact = _export(case.variant, options.models)
        except subprocess.CalledProcessError as error:
            return report_error(f"albert-export {case.variant} ended with {error.returncode}", _FAILED)
        *fewer, most = thread_counts(cpus)
        workloads = {**dict.fromkeys(fewer, case.fewer_threads), most: case.workloads}
        plans.append(Plan(artifact, workloads, case.memory))
    return measure(plans, chosen, settings(options), options.output)


def _export(variant: str, folder: Path) -> Path:
    """Export the variant with seeded weights into ``folder`` unless it exists; the path of its manifest."""
    artifact = folder / f"{variant}.manifest.json"
    if not artifact.exists():
        log(f"exporting {variant}")
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "albert_export.cli", variant, "--random-weights", "-o", str(folder)]
        subprocess.run([*command, "--force", "--quiet"], check=True)
    return artifact


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=_PROGRAM, description=__doc__, allow_abbrev=False)
    add_common(parser)
    parser.add_argument(
        "--models", metavar="DIR", type=Path, required=True, help="folder for the exported models"
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, required=True, help="folder for the results"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
