"""The ladder as a picture: 99th percentile against offered load."""

import importlib.util
from math import isfinite
from pathlib import Path
from typing import Any

from .report import by_step, median_p99


def draw(results: dict[str, Any], folder: Path) -> Path | None:
    """load.svg; None where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return None
    import matplotlib as mpl  # noqa: PLC0415  (of the extra)
    from matplotlib.figure import Figure  # noqa: PLC0415

    lines: dict[str, list[tuple[float, float]]] = {}
    for _, name, turns in by_step(results):
        if isfinite(p99 := median_p99(turns)):
            lines.setdefault(name, []).append((turns[0]["rate"], p99))
    # The same results give the same file.
    with mpl.rc_context({"svg.hashsalt": "albert-bench", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(8.0, 3.5), layout="constrained")
        axis = figure.subplots()
        for name, points in lines.items():
            axis.plot(*zip(*sorted(points), strict=True), marker="o", markersize=3, label=name)
        axis.set_yscale("log")
        axis.set_xlabel("requests offered a second")
        axis.set_ylabel("99th percentile, ms")
        axis.set_title(f"{results['model']}, mixed lengths, {results['machine']['cpu']}", fontsize="medium")
        axis.legend(fontsize="small")
        axis.spines[["top", "right"]].set_visible(False)
        path = folder / "load.svg"
        figure.savefig(path, metadata={"Date": None})
    return path
