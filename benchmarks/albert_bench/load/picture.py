"""The ladder as a picture: 99th percentile against offered load."""

import importlib.util
from pathlib import Path
from statistics import median
from typing import Any

from .report import by_step


def draw(results: dict[str, Any], folder: Path) -> Path | None:
    """load.svg; None where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return None
    import matplotlib as mpl  # noqa: PLC0415  (of the extra)
    from matplotlib.figure import Figure  # noqa: PLC0415

    lines: dict[str, list[tuple[float, float]]] = {}
    for _, name, turns in by_step(results):
        known = [turn["p99"] for turn in turns if turn["p99"] is not None]
        if known:
            lines.setdefault(name, []).append((turns[0]["rate"], median(known)))
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
