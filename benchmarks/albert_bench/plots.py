"""The results as pictures: throughput against the machine's ceiling, and latency against length."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from .peers.base import PEERS, PRECISIONS
from .report import best, contenders, split_name

_WIDTH, _HEIGHT = 9.0, 3.0  # inches, of one panel
_GROUP = 0.8  # of the room of one work, filled by bars


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    """throughput.svg and latency.svg of the first model at its most threads; what was written.

    Nothing is where matplotlib is not installed or nothing was timed.
    """
    if importlib.util.find_spec("matplotlib") is None or not results["models"]:
        return []
    model = results["models"][0]
    most = max((work["threads"] for work in model["work"]), default=0)
    rows = [work for work in model["work"] if work["threads"] == most]
    title = f"{model['name']}, {most} threads, {results['machine']['cpu']}"
    single = [row for row in rows if len(row["lengths"]) == 1]
    if len(single) < 2:  # no line through one point
        single = []
    written = []
    for name, panel, shown in (("throughput", _throughput, rows), ("latency", _latency, single)):
        precisions = [
            p for p in PRECISIONS if any(_timed(shown, contender) for contender in contenders(shown, p))
        ]
        if precisions:
            written.append(folder / f"{name}.svg")
            _save(written[-1], title, precisions, shown, panel)
    return written


def _save(
    path: Path, title: str, precisions: Sequence[str], rows: Sequence[dict[str, Any]], panel: Any
) -> None:
    import matplotlib as mpl  # noqa: PLC0415  (of the extra)
    from matplotlib.figure import Figure  # noqa: PLC0415

    # The same results give the same file.
    with mpl.rc_context({"svg.hashsalt": "albert-bench", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(_WIDTH, _HEIGHT * len(precisions)), layout="constrained")
        figure.suptitle(title)
        axes = figure.subplots(len(precisions), 1, squeeze=False)[:, 0]
        for axis, precision in zip(axes, precisions, strict=True):
            panel(axis, rows, precision)
            axis.set_title(precision, loc="left")
            axis.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
            axis.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, metadata={"Date": None})


def _throughput(axis: Any, rows: Sequence[dict[str, Any]], precision: str) -> None:
    """Bars of useful operations a second, each contender in its best form, under a line at the ceiling."""
    names = [name for name in contenders(rows, precision) if _timed(rows, name)]
    width = _GROUP / len(names)
    for place, name in enumerate(names):
        bars = _timed(rows, name)
        left = [index - _GROUP / 2 + (place + 0.5) * width for index in bars]
        heights = [entrant["gflops"]["median"] for entrant in bars.values()]
        axis.bar(left, heights, width, label=_label(name), **_look(name))
    limits = [
        limit
        for row in rows
        for entrant in row["entrants"]
        if split_name(entrant["contender"])[1] == precision
        for limit in entrant.get("ceiling_gflops", {}).values()
    ]
    if limits:
        axis.axhline(median(limits), color="black", linewidth=0.8, linestyle="--", label="ceiling")
    axis.set_xticks(range(len(rows)), [row["work"] for row in rows])
    axis.set_ylabel("GOP/s" if precision == "int8" else "GFLOP/s")


def _latency(axis: Any, rows: Sequence[dict[str, Any]], precision: str) -> None:
    """Milliseconds of one row against its length, both in logarithms."""
    for name in contenders(rows, precision):
        points = sorted((rows[i]["lengths"][0], e["ms"]["median"]) for i, e in _timed(rows, name).items())
        if points:
            style = {"marker": "o", "markersize": 3, "label": _label(name), **_look(name)}
            axis.plot(*zip(*points, strict=True), **style)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    ticks = sorted({row["lengths"][0] for row in rows})
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.set_xlabel("tokens")
    axis.set_ylabel("ms")


def _label(name: str) -> str:
    return name.rsplit(" ", 1)[0]  # the precision stands above the panel


def _look(name: str) -> dict[str, Any]:
    """A peer has one colour everywhere, paler for a variant of it."""
    peer, _, variant = split_name(name)
    return {"color": f"C{[*PEERS, peer].index(peer)}", "alpha": 0.5 if variant else 1.0}


def _timed(rows: Sequence[dict[str, Any]], name: str) -> dict[int, dict[str, Any]]:
    """The best form of a contender by the number of the row, where it has one."""
    found = ((index, best(row, *split_name(name))) for index, row in enumerate(rows))
    return {index: entrant for index, entrant in found if entrant is not None}
