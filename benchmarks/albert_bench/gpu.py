"""`make bench-gpu`: ONNX Runtime's TensorRT and CUDA and compiled PyTorch on one NVIDIA GPU, turn by turn.

A time is that of a call: from token ids on the host to outputs on the host, padded as each of them pads.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from albert_runtime import AlbertError, Predictor
from albert_runtime.artifact.artifact import Artifact
from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.backends.gpu import find_gpu

from .check import check
from .cli import complain, say
from .machine import describe, today
from .peers.base import HIDDEN, POOLED, Answer, padded
from .rounds import Times, run_rounds
from .stats import ratios, spread
from .workload import Rows, Work, mixed, uniform

VARIANT = "albert-base-v2"
WORK = (uniform(1, 32), uniform(32, 128), uniform(256, 128), uniform(32, 512), mixed(256))
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

Run = Callable[[Rows], Answer]


@dataclass
class Entrant:
    """One library in one precision on one work."""

    name: str
    precision: str
    call: Run
    rows: Rows

    @property
    def group(self) -> str:
        return self.name

    def turn(self) -> float:
        """Median seconds of a call, repeated for a while."""
        taken: list[float] = []
        while not taken or sum(taken) < _TURN_SECONDS:
            start = time.perf_counter()
            self.call(self.rows)
            taken.append(time.perf_counter() - start)
        return float(np.median(taken))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m albert_bench.gpu", description=__doc__)
    parser.add_argument("--models", metavar="DIR", type=Path, required=True, help="the exported artifacts")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        gpu = find_gpu()
        reference = _artifact(options.models, "fp16")
    except AlbertError as error:
        return complain(str(error), 1)
    assert reference.manifest is not None
    config = reference.manifest.config
    oracle = Predictor(options.models / reference.stem, backend="native")
    calls, absent = _calls(options.models, reference, config)
    results: dict[str, Any] = {
        "date": today(),
        "gpu": asdict(gpu),
        "machine": describe(),
        "absent": absent,
        "work": [_measure(work, calls, oracle, config) for work in WORK],
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "gpu.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    table = _markdown(results)
    (options.output / "gpu.md").write_text(table, encoding="utf-8")
    print(table, end="")
    return 0


def _artifact(models: Path, precision: str) -> Artifact:
    return Artifact.open(models / (VARIANT if precision == "fp32" else f"{VARIANT}-{precision}"))


def _calls(models: Path, reference: Artifact, config: AlbertConfig) -> tuple[dict[str, Run], dict[str, str]]:
    """Who takes part, and why the others do not."""
    calls: dict[str, Run] = {}
    absent: dict[str, str] = {}
    for backend, precision in _ORT:
        name = f"{backend} {precision}"
        say(f"{name}: starting")
        try:
            path = models / _artifact(models, precision).stem
            predictor = Predictor(path, backend=backend, max_batch=_MAX_ROWS)
        except AlbertError as error:
            absent[name] = str(error)
            say(f"{name}: {error}")
            continue
        calls[name] = predictor.run
    for precision in _TORCH:
        say(f"torch {precision}: starting")
        try:
            calls[f"torch {precision}"] = _torch(reference, config, precision)
        except (ImportError, RuntimeError) as error:
            absent[f"torch {precision}"] = str(error)
    return calls, absent


def _torch(artifact: Artifact, config: AlbertConfig, precision: str) -> Run:
    """The encoder of the CPU comparison, its layer compiled for the GPU."""
    import torch  # noqa: PLC0415  (takes seconds, and may be missing)

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


def _measure(work: Work, calls: dict[str, Run], oracle: Predictor, config: AlbertConfig) -> dict[str, Any]:
    rows = work.rows(config)
    few = rows[: min(4, len(rows))]
    expected = _by_row(oracle.run(few), few)
    entrants, faults = [], {}
    for name, call in calls.items():
        precision = name.split()[1]
        say(f"{work.name}: {name}")
        found = check(expected, _by_row(call(rows), few), "int8" if precision == "int8" else "bf16")
        if found.fault is not None:
            faults[name] = found.fault
            continue
        entrants.append(Entrant(name, precision, call, rows))
    times = run_rounds(entrants, _ROUNDS, _ROUNDS, lambda precision: None, Exception)
    return {"work": work.name, "tokens": work.tokens, "faults": faults, "entrants": _figures(entrants, times)}


def _by_row(answer: Answer, rows: Rows) -> list[Answer]:
    return [{HIDDEN: answer[HIDDEN][i, : len(row)], POOLED: answer[POOLED][i]} for i, row in enumerate(rows)]


def _figures(entrants: Sequence[Entrant], times: Sequence[Times]) -> list[dict[str, Any]]:
    best = min((mine for mine in times if mine.seconds), key=lambda t: np.median([*t.seconds.values()]))
    figures = []
    for entrant, mine in zip(entrants, times, strict=True):
        ratio = ratios(best.seconds, mine.seconds)
        figures.append(
            {
                "name": entrant.name,
                "fault": mine.fault,
                "ms": spread([1e3 * s for s in mine.seconds.values()]).to_dict() if mine.seconds else None,
                "ratio": None if ratio is None else ratio.to_dict(),
            }
        )
    return figures


def _markdown(results: dict[str, Any]) -> str:
    names = list(dict.fromkeys(one["name"] for work in results["work"] for one in work["entrants"]))
    lines = [
        f"{VARIANT} on {results['gpu']['name']}, {results['date']}: ms a call, and over the fastest's.",
        "",
        f"| work | {' | '.join(names)} |",
        f"|---|{'---:|' * len(names)}",
    ]
    for work in results["work"]:
        found = {one["name"]: one for one in work["entrants"]}
        cells = [_cell(found.get(name)) for name in names]
        lines.append(f"| {work['work']} | {' | '.join(cells)} |")
    lines += [f"\n{name}: {reason}" for name, reason in results["absent"].items()]
    return "\n".join(lines) + "\n"


def _cell(one: dict[str, Any] | None) -> str:
    if one is None or one["ms"] is None:
        return "-"
    return f"{one['ms']['median']:.3g} ({one['ratio']['median']:.2f})"


if __name__ == "__main__":
    sys.exit(main())
