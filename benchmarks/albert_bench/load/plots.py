"""The load sweep as a plot: 99th percentile against offered load."""

from math import isfinite
from pathlib import Path
from typing import Any

from ..plots import has_matplotlib, svg_figure
from .report import by_step, median_p99


def draw(results: dict[str, Any], folder: Path) -> Path | None:
    """Write load.svg; None if matplotlib is not installed."""
    if not has_matplotlib():
        return None

    lines: dict[str, list[tuple[float, float]]] = {}
    for _, name, turns in by_step(results):
        if isfinite(p99 := median_p99(turns)):
            lines.setdefault(name, []).append((turns[0]["rate"], p99))
    path = folder / "load.svg"
    with svg_figure(path, 8.0, 3.5) as figure:
        axis = figure.subplots()
        for name, points in lines.items():
            axis.plot(*zip(*sorted(points), strict=True), marker="o", markersize=3, label=name)
        axis.set_yscale("log")
        axis.set_xlabel("requests offered per second")
        axis.set_ylabel("99th percentile, ms")
        axis.set_title(f"{results['model']}, mixed lengths, {results['machine']['cpu']}", fontsize="medium")
        axis.legend(fontsize="small")
        axis.spines[["top", "right"]].set_visible(False)
    return path
