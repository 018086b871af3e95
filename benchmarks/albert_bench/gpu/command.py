"""The command: check everybody's answers against the CPU engine's, then time them in turns.

A time is that of one call, from token ids on the host to outputs on the host.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from albert_runtime import AlbertError, Predictor
from albert_runtime.backends.nvidia import find_gpu

from ..check import check
from ..machine import describe, today
from ..output import log, report_error, write_json
from ..peers.base import ENGINE, HIDDEN, POOLED, Answer
from ..rounds import run_rounds
from ..seeded import config_of, seeded_artifact
from ..workload import Rows
from .cases import FULL, SHORT, Call, Case, Work
from .contenders import GpuContender, start
from .report import faults_of, figures, markdown, package_versions

if TYPE_CHECKING:
    from .rates import MatrixRate

_PROGRAM = "python -m albert_bench.gpu"
_CHECKED_ROWS = 4
# Products of 16 bits, and of float32 rounded to TF32, are checked alike.
_CHECKED_AS = {"fp32": "fp32", "int8": "int8"}


@dataclass(frozen=True, slots=True)
class Timing:
    """How it is timed: rounds, and the seconds for which a short call is repeated within a turn."""

    rounds: int
    turn_seconds: float
    trial_rounds: int = 1


@dataclass
class ContenderRun:
    """A contender in one batching on one workload, and the seconds of each of its calls."""

    contender: GpuContender
    batching: str
    call: Call
    rows: Rows
    pooled_only: bool
    turn_seconds: float
    seconds: list[float] = field(default_factory=list)

    @property
    def precision(self) -> str:
        """Whose matrix rate it is compared with."""
        return self.contender.precision

    @property
    def group(self) -> str:
        """The contender; its fastest batching counts."""
        return self.contender.name

    def turn(self) -> float:
        """Repeat the call for a while; its median seconds."""
        taken: list[float] = []
        while not taken or sum(taken) < self.turn_seconds:
            begin = time.perf_counter()
            self.call(self.rows, self.pooled_only)
            taken.append(time.perf_counter() - begin)
        self.seconds += taken
        return float(np.median(taken))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code: 1 if the engine is missing or wrong anywhere."""
    options = add_options(argparse.ArgumentParser(prog=_PROGRAM, description=__doc__)).parse_intermixed_args(
        arguments
    )
    try:
        gpu, device = find_device(tiny=options.tiny)
        from .rates import MatrixRate  # noqa: PLC0415  (imports torch, which may be missing)

        cases, timing = (SHORT, Timing(1, 0.0)) if options.tiny else (FULL, Timing(5, 0.1))
        results = measure(cases, timing, options, device, MatrixRate(device), gpu)
    except (AlbertError, ImportError, OSError) as error:
        return report_error(str(error), 1)
    print(markdown(results), end="")
    faults = [fault for model in results["models"] for fault in faults_of(model)]
    wrong = [text for name, text in faults if name.startswith(ENGINE)]
    return report_error("; ".join(wrong), 1) if wrong else 0


def add_options(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the options that the commands on a GPU share; the parser."""
    parser.add_argument(
        "--models", metavar="DIR", type=Path, required=True, help="folder for the seeded models"
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, required=True, help="folder for the results"
    )
    parser.add_argument(
        "--tiny",
        action="store_true",
        help="a tiny model and short rows, once, to see that it runs; TRITON_INTERPRET=1: without a GPU",
    )
    return parser


def find_device(*, tiny: bool) -> tuple[dict[str, Any], str]:
    """The GPU, ready for JSON, and torch's name for it; the CPU if there is none and a dry run is asked for.

    Raises:
        BackendError: There is no GPU, and no dry run is asked for.
    """
    try:
        return asdict(find_gpu()), "cuda"
    except AlbertError:
        if not tiny:
            raise
    return {"name": "no GPU, Triton's interpreter"}, "cpu"


def measure(
    cases: Sequence[Case],
    timing: Timing,
    options: argparse.Namespace,
    device: str,
    rate: "MatrixRate",
    gpu: dict[str, Any],
) -> dict[str, Any]:
    """Measure all cases; gpu.json and gpu.md are written after each workload. The results, ready for JSON."""
    results: dict[str, Any] = {
        "date": today(),
        "gpu": gpu,
        "machine": describe(),
        "versions": package_versions(),
        "settings": asdict(timing),
        "matrix_size": rate.size,
        "matrix_ops": rate.probes,
        "models": [],
    }
    for case in cases:
        reference = Predictor(seeded_artifact(options.models, case.variant), backend="native")
        contenders, absent = start(case, options.models, device)
        model: dict[str, Any] = {
            "name": case.variant,
            "absent": absent,
            "work": [],
        }
        results["models"].append(model)
        for work in case.work:
            model["work"].append(_measure(case, work, contenders, reference, timing, rate))
            write_json(results, options.output / "gpu.json")
            (options.output / "gpu.md").write_text(markdown(results), encoding="utf-8")
    return results


def _measure(
    case: Case,
    work: Work,
    contenders: Sequence[GpuContender],
    reference: Predictor,
    timing: Timing,
    rate: "MatrixRate",
) -> dict[str, Any]:
    config = config_of(case.variant)
    rows = work.workload.rows(config)
    chosen = sorted({int(i) for i in np.linspace(0, len(rows) - 1, _CHECKED_ROWS)})
    some = [rows[i] for i in chosen]
    expected = _by_row(reference.run(some, outputs=[POOLED] if work.pooled_only else None), some)
    runs: list[ContenderRun] = []
    faults: list[dict[str, str]] = []
    for contender in contenders:
        for batching, call in contender.batchings(work.workload).items():
            log(f"{case.variant}, {work.name}: checking {contender.name}, {batching}")
            try:
                answer = call(rows, work.pooled_only)
                found = _by_row({name: values[chosen] for name, values in answer.items()}, some)
                fault = check(expected, found, _CHECKED_AS.get(contender.precision, "bf16")).fault
            except Exception as error:  # whatever a library raises is its own fault, and the others go on
                fault = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            if fault is None:
                runs.append(
                    ContenderRun(contender, batching, call, rows, work.pooled_only, timing.turn_seconds)
                )
            else:
                log(f"{contender.name}, {batching} is left out: {fault}")
                faults.append({"name": contender.name, "form": batching, "fault": fault})
    log(f"{case.variant}, {work.name}: timing")
    times = run_rounds(runs, timing.rounds, timing.trial_rounds, rate, Exception)
    flops = work.workload.flops(config, pooled_only=work.pooled_only)
    return {
        "work": work.name,
        "tokens": work.workload.tokens,
        "gflop": flops / 1e9,
        "entrants": figures(runs, times, work.workload.tokens, flops, case.precisions[0]),
        "faults": faults,
    }


def _by_row(answer: Answer, rows: Rows) -> list[Answer]:
    return [
        {name: values[i, : len(row)] if name == HIDDEN else values[i] for name, values in answer.items()}
        for i, row in enumerate(rows)
    ]


if __name__ == "__main__":
    sys.exit(main())
