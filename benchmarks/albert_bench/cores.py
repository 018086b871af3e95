"""`make bench-cores`: how the CPU engine's speed grows with threads, on one model with seeded weights.

Each number of threads is a session of albert-bench without peers: the engine in each precision in a process
of its own, answers checked, turns in rounds, and the machine's peak probed before each turn.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from albert_runtime import AlbertError
from albert_runtime.threads import available_cpus

from .compare import Plan, compare, thread_counts
from .output import log, report_error, write_json
from .peers.base import ENGINE, PEERS, PRECISIONS
from .process import ProcessFailed
from .report import fastest_run, table
from .seeded import TINY, seeded_artifact
from .session import Settings
from .workload import uniform

_PROGRAM = "python -m albert_bench.cores"
_VARIANT = "albert-base-v2"
WORKLOADS = ("1x128", "8x128", "mixed 32")
_TINY_WORKLOADS = (uniform(1, 16).name,)
LEGEND = (
    "Tokens/s are medians over rounds. Ratio: tokens/s over those on one thread. Share: operations without "
    "padding over the machine's multiply-add peak on as many threads, probed just before each turn."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = argparse.ArgumentParser(prog=_PROGRAM, description=__doc__)
    parser.add_argument(
        "--models", metavar="DIR", type=Path, required=True, help="folder for the seeded model"
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, required=True, help="folder for the results"
    )
    parser.add_argument(
        "--tiny", action="store_true", help="a tiny model and one short row, once, to see that it runs"
    )
    options = parser.parse_intermixed_args(arguments)
    workloads = _TINY_WORKLOADS if options.tiny else WORKLOADS
    settings = Settings(1, 0.0) if options.tiny else Settings()

    def write(results: dict[str, Any]) -> None:
        write_json(results, options.output / "cores.json")
        (options.output / "cores.md").write_text(markdown(results), encoding="utf-8")

    try:
        artifact = seeded_artifact(options.models, TINY if options.tiny else _VARIANT)
        cpus = available_cpus()
        plan = Plan(artifact, dict.fromkeys(thread_counts(cpus, cpus), workloads), memory=False)
        with tempfile.TemporaryDirectory(prefix="albert-bench-") as scratch:
            results = compare([plan], PEERS[ENGINE].contenders, settings, Path(scratch), log, write)
    except (AlbertError, ProcessFailed, OSError) as error:
        return report_error(str(error), 1)
    print(markdown(results), end="")
    return 0


def scaling(work: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The engine's speed for each workload, precision and number of threads.

    Args:
        work: What ``compare`` measured of a model, on one thread first.

    Yields:
        work, precision, threads, tokens_per_second, and where they are known ``ratio``, the speed over that
        on one thread, and ``share`` of the peak.
    """
    alone: dict[tuple[str, str], float] = {}
    for one in sorted(work, key=lambda one: int(one["threads"])):
        for precision in PRECISIONS:
            run = fastest_run(one, ENGINE, precision)
            if run is None:
                continue
            speed = 1e3 * one["tokens"] / run["ms"]["median"]
            found = {
                "work": one["work"],
                "precision": precision,
                "threads": one["threads"],
                "tokens_per_second": speed,
            }
            if one["threads"] == 1:
                alone[one["work"], precision] = speed
            if (one["work"], precision) in alone:
                found["ratio"] = speed / alone[one["work"], precision]
            if "share" in run:
                found["share"] = run["share"]["median"]
            yield found


def markdown(results: dict[str, Any]) -> str:
    """A table for each precision and workload."""
    machine = results["machine"]
    parts = [
        "# Threads of the CPU engine",
        f"{machine['cpu']} ({', '.join(machine['instructions'])}), {machine['cpus']} CPUs. "
        f"{results['date']}, rounds: {results['settings']['rounds']}.",
        LEGEND,
    ]
    for model in results["models"]:
        found = list(scaling(model["work"]))
        for precision in PRECISIONS:
            for name in dict.fromkeys(one["work"] for one in found):
                lines = [
                    [
                        str(one["threads"]),
                        f"{one['tokens_per_second']:,.0f}",
                        f"{one['ratio']:.2f}" if "ratio" in one else "-",
                        f"{100 * one['share']:.0f} %" if "share" in one else "-",
                    ]
                    for one in found
                    if (one["precision"], one["work"]) == (precision, name)
                ]
                if lines:
                    parts += [
                        f"## {model['name']}, {precision}, {name}",
                        table(("threads", "tokens/s", "ratio", "share"), lines, 0),
                    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.exit(main())
