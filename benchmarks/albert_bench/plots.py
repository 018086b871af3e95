"""The results as plots: throughput against the machine's peak, and latency against length."""

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from .peers.base import PEERS, PRECISIONS
from .report import contender_names, fastest_run, split_name

_WIDTH, _HEIGHT = 9.0, 3.0  # inches, of one panel
_GROUP = 0.8  # the part of a workload's place on the axis that its bars fill


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    """Write throughput.svg and latency.svg of the first model at its largest number of threads.

    Returns:
        What was written; nothing if matplotlib is not installed or nothing was timed.
    """
    if not has_matplotlib() or not results["models"]:
        return []
    model = results["models"][0]
    max_threads = max((workload["threads"] for workload in model["work"]), default=0)
    rows = [workload for workload in model["work"] if workload["threads"] == max_threads]
    title = f"{model['name']}, {max_threads} threads, {results['machine']['cpu']}"
    single = [row for row in rows if len(row["lengths"]) == 1]
    if len(single) < 2:  # no line through one point
        single = []
    written = []
    for name, panel, shown in (("throughput", _throughput, rows), ("latency", _latency, single)):
        precisions = [
            p for p in PRECISIONS if any(_timed(shown, contender) for contender in contender_names(shown, p))
        ]
        if precisions:
            written.append(folder / f"{name}.svg")
            _save(written[-1], title, precisions, shown, panel)
    return written


def _save(
    path: Path, title: str, precisions: Sequence[str], rows: Sequence[dict[str, Any]], panel: Any
) -> None:
    with svg_figure(path, _WIDTH, _HEIGHT * len(precisions)) as figure:
        figure.suptitle(title)
        axes = figure.subplots(len(precisions), 1, squeeze=False)[:, 0]
        for axis, precision in zip(axes, precisions, strict=True):
            panel(axis, rows, precision)
            axis.set_title(precision, loc="left")
            axis.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
            axis.spines[["top", "right"]].set_visible(False)


def has_matplotlib() -> bool:
    """Whether plots can be drawn: matplotlib comes with an extra."""
    return importlib.util.find_spec("matplotlib") is not None


@contextmanager
def svg_figure(path: Path, width: float, height: float) -> Iterator[Any]:
    """A matplotlib figure of this size in inches, written to ``path`` at the end.

    The same figure always gives the same file.
    """
    import matplotlib as mpl  # noqa: PLC0415  (comes with an extra)
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context({"svg.hashsalt": "albert-bench", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        figure.savefig(path, metadata={"Date": None})


def _throughput(axis: Any, rows: Sequence[dict[str, Any]], precision: str) -> None:
    """Bars of useful operations per second, each contender in its best batching, under a line at the peak."""
    names = [name for name in contender_names(rows, precision) if _timed(rows, name)]
    width = _GROUP / len(names)
    for place, name in enumerate(names):
        bars = _timed(rows, name)
        left = [index - _GROUP / 2 + (place + 0.5) * width for index in bars]
        heights = [run["gflops"]["median"] for run in bars.values()]
        axis.bar(left, heights, width, label=_label(name), **_look(name))
    peaks = [
        peak
        for row in rows
        for run in row["entrants"]
        if split_name(run["contender"])[1] == precision
        for peak in run.get("ceiling_gflops", {}).values()
    ]
    if peaks:
        axis.axhline(median(peaks), color="black", linewidth=0.8, linestyle="--", label="peak")
    axis.set_xticks(range(len(rows)), [row["work"] for row in rows])
    axis.set_ylabel("GOP/s" if precision == "int8" else "GFLOP/s")


def _latency(axis: Any, rows: Sequence[dict[str, Any]], precision: str) -> None:
    """Milliseconds of one row against its length, on logarithmic axes."""
    for name in contender_names(rows, precision):
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
    return name.rsplit(" ", 1)[0]  # without the precision, which is the panel's title


def _look(name: str) -> dict[str, Any]:
    """Each peer has one colour everywhere; its variants are paler."""
    peer, _, variant = split_name(name)
    return {"color": f"C{[*PEERS, peer].index(peer)}", "alpha": 0.5 if variant else 1.0}


def _timed(rows: Sequence[dict[str, Any]], name: str) -> dict[int, dict[str, Any]]:
    """A contender's fastest run in each row that has one, by the row's index."""
    found = ((index, fastest_run(row, *split_name(name))) for index, row in enumerate(rows))
    return {index: run for index, run in found if run is not None}
