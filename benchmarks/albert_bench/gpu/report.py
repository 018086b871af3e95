"""The figures of each entrant, and all of them as Markdown, with the targets beside what was measured."""

from collections.abc import Sequence
from importlib import metadata
from typing import Any, Protocol

import numpy as np

from ..report import table
from ..rounds import Times
from ..stats import ratios, spread
from .entrants import Entrant, engine_name
from .targets import target_rows

_PACKAGES = ("torch", "triton", "numpy", "onnxruntime", "onnxruntime-gpu", "tensorrt")
LEGEND = (
    "A time is that of one call, from token ids on the host to outputs on the host: the pooled output, if "
    "nothing else is said. Tokens/s and share are medians over rounds, in which all take turns; p50 and p99 "
    "are those of all calls. Share: operations that the outputs need, without padding, over the rate of one "
    "large square product by torch (cuBLAS) in the same precision, probed before each turn. A pooled output "
    "needs little of the last layer; peers compute all of it. Ratio: time over the engine's in the first of "
    "its precisions, in the same round (p10-p90); above 1 the engine is faster. Of an entrant's forms the "
    "fastest is shown."
)


class _Run(Protocol):
    entrant: Entrant
    form: str
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
        runs: The entrants in their forms.
        times: What ``run_rounds`` measured of them.
        tokens: Tokens of the workload.
        flops: Operations that its outputs need.
        precision: That of the engine which the others are compared with.
    """
    name = engine_name(precision)
    engine = next((t for run, t in zip(runs, times, strict=True) if run.entrant.name == name), None)
    found = []
    for run, mine in zip(runs, times, strict=True):
        one: dict[str, Any] = {"name": run.entrant.name, "form": run.form, "calls": len(run.seconds)}
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


def fastest_forms(work: dict[str, Any]) -> list[dict[str, Any]]:
    """Each entrant's fastest form of one workload, the fastest entrant first."""
    best: dict[str, dict[str, Any]] = {}
    for one in work["entrants"]:
        if "tokens_per_second" not in one or "fault" in one:
            continue
        rival = best.get(one["name"])
        if rival is None or _speed(one) > _speed(rival):
            best[one["name"]] = one
    return sorted(best.values(), key=_speed, reverse=True)


def markdown(results: dict[str, Any]) -> str:
    """The whole document."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    rates = "; ".join(
        f"{precision} {float(np.median(probes)) / 1e12:.3g} TFLOP/s"
        for precision, probes in results["matrix_ops"].items()
    )
    best = {
        (model["name"], work["work"]): fastest_forms(work)
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
        parts += _left_out(model)
    return "\n\n".join(parts) + "\n"


def _speed(one: dict[str, Any]) -> float:
    return float(one["tokens_per_second"]["median"])


def _table(entrants: Sequence[dict[str, Any]]) -> str:
    rows = []
    for one in entrants:
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
    return table(("entrant", "form", "tokens/s", "share", "p50, ms", "p99, ms", "ratio"), rows, 2)


def _left_out(model: dict[str, Any]) -> list[str]:
    lines = [f"* {name}: {reason}" for name, reason in model["absent"].items()]
    for work in model["work"]:
        for one in (*work["faults"], *(e for e in work["entrants"] if "fault" in e)):
            lines.append(f"* {one['name']}, {work['work']}, {one['form']}: {one['fault']}")
    return ["Left out:\n\n" + "\n".join(lines)] if lines else []
