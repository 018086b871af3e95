"""The figures of each contender, and all of them as Markdown, with the targets beside what was measured."""

from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any, Protocol

import numpy as np

from ..report import table
from ..rounds import Times
from ..stats import ratios, spread
from .contenders import GpuContender, engine_name
from .targets import target_rows

_PACKAGES = ("torch", "triton", "numpy", "onnxruntime", "onnxruntime-gpu", "tensorrt")
LEGEND = (
    "A time is that of one call, from token ids on the host to outputs on the host: the pooled output, if "
    "nothing else is said. Tokens/s and share are medians over rounds, in which all take turns; p50 and p99 "
    "are those of all calls. Share: operations that the outputs need, without padding, over the rate of one "
    "large square product by torch (cuBLAS) in the same precision, probed before each turn. A pooled output "
    "needs little of the last layer; peers compute all of it. Ratio: time over the engine's in the first of "
    "its precisions, in the same round (p10-p90); above 1 the engine is faster. Of each contender the "
    "fastest batching is shown."
)


class _Run(Protocol):
    contender: GpuContender
    batching: str
    seconds: list[float]


def package_versions() -> dict[str, str]:
    """Installed versions of what may take part."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def figures(
    runs: Sequence[_Run], times: Sequence[Times], tokens: int, flops: float, precision: str
) -> list[dict[str, Any]]:
    """What was measured of each run.

    Args:
        runs: The contenders in their batchings.
        times: What ``run_rounds`` measured of them.
        tokens: Tokens of the workload.
        flops: Operations that its outputs need.
        precision: That of the engine which the others are compared with.
    """
    name = engine_name(precision)
    engine = next((t for run, t in zip(runs, times, strict=True) if run.contender.name == name), None)
    found = []
    for run, mine in zip(runs, times, strict=True):
        one: dict[str, Any] = {"name": run.contender.name, "form": run.batching, "calls": len(run.seconds)}
        if mine.fault is not None:
            one["fault"] = mine.fault
        if mine.seconds:
            p50, p99 = np.percentile(run.seconds, [50, 99])
            one |= {"p50_ms": 1e3 * float(p50), "p99_ms": 1e3 * float(p99)}
            one["tokens_per_second"] = spread([tokens / s for s in mine.seconds.values()]).to_dict()
        shares = [flops / mine.seconds[number] / rate for number, rate in mine.peak_ops.items()]
        if shares:
            one["share"] = spread(shares).to_dict()
        ratio = ratios(engine.seconds, mine.seconds) if engine is not None else None
        if ratio is not None:
            one["ratio"] = ratio.to_dict()
        found.append(one)
    return found


def fastest_batchings(work: dict[str, Any]) -> list[dict[str, Any]]:
    """Each contender's fastest batching of one workload, the fastest contender first."""
    best: dict[str, dict[str, Any]] = {}
    for one in work["entrants"]:
        if "tokens_per_second" not in one or "fault" in one:
            continue
        rival = best.get(one["name"])
        if rival is None or _speed(one) > _speed(rival):
            best[one["name"]] = one
    return sorted(best.values(), key=_speed, reverse=True)


def faults_of(model: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Who did not take part or was wrong, on one model: the contender's name, and what happened in a line."""
    for name, reason in model["absent"].items():
        yield name, f"{name}: {reason}"
    for work in model["work"]:
        for one in (*work["faults"], *(run for run in work["entrants"] if "fault" in run)):
            yield one["name"], f"{one['name']}, {work['work']}, {one['form']}: {one['fault']}"


def markdown(results: dict[str, Any]) -> str:
    """The whole document."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    rates = "; ".join(
        f"{precision} {float(np.median(probes)) / 1e12:.3g} TFLOP/s"
        for precision, probes in results["matrix_ops"].items()
    )
    best = {
        (model["name"], work["work"]): fastest_batchings(work)
        for model in results["models"]
        for work in model["work"]
    }
    parts = [
        "# The engine on a GPU",
        f"{results['gpu']['name']}; {machine['cpu']}, {machine['cpus']} CPUs; Python {machine['python']}, "
        f"{versions}. {results['date']}, rounds: {results['settings']['rounds']}.",
        LEGEND,
        f"Rate of a square product of {results['matrix_size']}, median: {rates or 'not measured'}.",
        "## Targets",
        "They are set for an H100 or H200.",
        table(("target", "asked", "measured", "met"), target_rows(best), 1),
    ]
    for model in results["models"]:
        parts.append(f"## {model['name']}")
        for work in model["work"]:
            parts += [
                f"### {work['work']}: {work['tokens']:,} tokens",
                _table(best[model["name"], work["work"]]),
            ]
        faults = [f"* {text}" for _, text in faults_of(model)]
        parts += ["Left out:\n\n" + "\n".join(faults)] if faults else []
    return "\n\n".join(parts) + "\n"


def _speed(one: dict[str, Any]) -> float:
    return float(one["tokens_per_second"]["median"])


def _table(contenders: Sequence[dict[str, Any]]) -> str:
    rows = []
    for one in contenders:
        share = f"{100 * one['share']['median']:.1f} %" if "share" in one else "-"
        ratio = one.get("ratio")
        compared = f"{ratio['median']:.2f} ({ratio['p10']:.2f}-{ratio['p90']:.2f})" if ratio else "-"
        rows.append(
            [
                one["name"],
                one["form"],
                f"{_speed(one):,.0f}",
                share,
                f"{one['p50_ms']:.3f}",
                f"{one['p99_ms']:.3f}",
                compared,
            ]
        )
    return table(("contender", "batching", "tokens/s", "share", "p50, ms", "p99, ms", "ratio"), rows, 2)
