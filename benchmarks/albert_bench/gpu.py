"""`make bench-gpu`: time ONNX Runtime on TensorRT and CUDA, and compiled PyTorch, on one NVIDIA GPU.

A time is that of one call, from token ids on the host to outputs on the host, with each library's padding.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from albert_runtime import AlbertConfig, AlbertError, Predictor
from albert_runtime.artifact import Artifact
from albert_runtime.backends.nvidia import find_gpu

from .check import check
from .machine import describe, today
from .output import log, report_error, write_json
from .peers.base import HIDDEN, POOLED, Answer, padded
from .report import table
from .rounds import Times, run_rounds
from .stats import ratios, spread
from .workload import Rows, Workload, mixed, uniform

VARIANT = "albert-base-v2"
WORKLOADS = (uniform(1, 32), uniform(32, 128), uniform(256, 128), uniform(32, 512), mixed(256))
_MAX_ROWS, _TURN_SECONDS, _ROUNDS = 256, 0.4, 5
_ORT = (
    ("tensorrt", "fp16"),
    ("tensorrt", "int8"),
    ("tensorrt", "fp32"),
    ("cuda", "fp16"),
    ("cuda", "int8"),
    ("cuda", "fp32"),
)
_TORCH = ("fp16", "bf16")

Call = Callable[[Rows], Answer]


@dataclass
class _GpuRun:
    """One library in one precision on one workload."""

    name: str
    precision: str
    call: Call
    rows: Rows

    @property
    def group(self) -> str:
        return self.name

    def turn(self) -> float:
        """Repeat the call for a while; its median seconds."""
        taken: list[float] = []
        while not taken or sum(taken) < _TURN_SECONDS:
            start = time.perf_counter()
            self.call(self.rows)
            taken.append(time.perf_counter() - start)
        return float(np.median(taken))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m albert_bench.gpu", description=__doc__)
    parser.add_argument(
        "--models", metavar="DIR", type=Path, required=True, help="folder with the exported models"
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, required=True, help="folder for the results"
    )
    options = parser.parse_args(arguments)
    try:
        gpu = find_gpu()
        reference = _artifact(options.models, "fp16")
    except AlbertError as error:
        return report_error(str(error), 1)
    assert reference.manifest is not None
    config = reference.manifest.config
    reference_predictor = Predictor(options.models / reference.stem, backend="native")
    calls, absent = _calls(options.models, reference, config)
    results: dict[str, Any] = {
        "date": today(),
        "gpu": asdict(gpu),
        "machine": describe(),
        "absent": absent,
        "work": [_measure(workload, calls, reference_predictor, config) for workload in WORKLOADS],
    }
    write_json(results, options.output / "gpu.json")
    text = _markdown(results)
    (options.output / "gpu.md").write_text(text, encoding="utf-8")
    print(text, end="")
    return 0


def _artifact(models: Path, precision: str) -> Artifact:
    return Artifact.open(models / (VARIANT if precision == "fp32" else f"{VARIANT}-{precision}"))


def _calls(models: Path, reference: Artifact, config: AlbertConfig) -> tuple[dict[str, Call], dict[str, str]]:
    """The call of each library that can take part, and the reason for each that cannot."""
    calls: dict[str, Call] = {}
    absent: dict[str, str] = {}
    for backend, precision in _ORT:
        name = f"{backend} {precision}"
        log(f"{name}: starting")
        try:
            path = models / _artifact(models, precision).stem
            predictor = Predictor(path, backend=backend, max_batch=_MAX_ROWS)
        except AlbertError as error:
            absent[name] = str(error)
            log(f"{name}: {error}")
            continue
        calls[name] = predictor.run
    for precision in _TORCH:
        log(f"torch {precision}: starting")
        try:
            calls[f"torch {precision}"] = _torch(reference, config, precision)
        except (ImportError, RuntimeError) as error:
            absent[f"torch {precision}"] = str(error)
    return calls, absent


def _torch(artifact: Artifact, config: AlbertConfig, precision: str) -> Call:
    """The encoder of the CPU benchmark, with its layer compiled for the GPU."""
    import torch  # noqa: PLC0415  (slow to import, and may be missing)

    from .peers.torch_peer import Encoder, read_tensors  # noqa: PLC0415

    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    encoder = Encoder(config, {name: values.cuda() for name, values in read_tensors(artifact, dtype).items()})

    def call(rows: Rows) -> Answer:
        ids, mask, _ = padded(rows)
        whole = all(len(row) == ids.shape[1] for row in rows)
        with torch.no_grad():
            given = None if whole else torch.from_numpy(mask).cuda()
            hidden, pooled = encoder(torch.from_numpy(ids).cuda(), given)
        return {HIDDEN: hidden.cpu().numpy(), POOLED: pooled.cpu().numpy()}

    return call


def _measure(
    workload: Workload, calls: dict[str, Call], reference_predictor: Predictor, config: AlbertConfig
) -> dict[str, Any]:
    rows = workload.rows(config)
    few = rows[: min(4, len(rows))]
    expected = _split_rows(reference_predictor.run(few), few)
    runs, faults = [], {}
    for name, call in calls.items():
        precision = name.split()[1]
        log(f"{workload.name}: {name}")
        found = check(expected, _split_rows(call(rows), few), "int8" if precision == "int8" else "bf16")
        if found.fault is not None:
            faults[name] = found.fault
            continue
        runs.append(_GpuRun(name, precision, call, rows))
    times = run_rounds(runs, _ROUNDS, _ROUNDS, lambda precision: None, Exception)
    return {
        "work": workload.name,
        "tokens": workload.tokens,
        "faults": faults,
        "entrants": _figures(runs, times),
    }


def _split_rows(answer: Answer, rows: Rows) -> list[Answer]:
    return [{HIDDEN: answer[HIDDEN][i, : len(row)], POOLED: answer[POOLED][i]} for i, row in enumerate(rows)]


def _figures(runs: Sequence[_GpuRun], times: Sequence[Times]) -> list[dict[str, Any]]:
    best = min((mine for mine in times if mine.seconds), key=lambda t: np.median([*t.seconds.values()]))
    figures = []
    for run, mine in zip(runs, times, strict=True):
        ratio = ratios(best.seconds, mine.seconds)
        figures.append(
            {
                "name": run.name,
                "fault": mine.fault,
                "ms": spread([1e3 * s for s in mine.seconds.values()]).to_dict() if mine.seconds else None,
                "ratio": None if ratio is None else ratio.to_dict(),
            }
        )
    return figures


def _markdown(results: dict[str, Any]) -> str:
    names = list(dict.fromkeys(run["name"] for workload in results["work"] for run in workload["entrants"]))
    lines = [
        f"{VARIANT} on {results['gpu']['name']}, {results['date']}: ms per call (and over the fastest's).",
        "",
    ]
    rows = []
    for workload in results["work"]:
        found = {run["name"]: run for run in workload["entrants"]}
        rows.append([workload["work"], *(_cell(found.get(name)) for name in names)])
    lines.append(table(["work", *names], rows))
    lines += [f"\n{name}: {reason}" for name, reason in results["absent"].items()]
    return "\n".join(lines) + "\n"


def _cell(run: dict[str, Any] | None) -> str:
    if run is None or run["ms"] is None:
        return "-"
    return f"{run['ms']['median']:.3g} ({run['ratio']['median']:.2f})"


if __name__ == "__main__":
    sys.exit(main())
