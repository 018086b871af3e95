"""The results as Markdown: the engine's times and shares of the peak, and peers' times relative to it."""

from collections.abc import Iterable, Sequence
from typing import Any

from .peers.base import ENGINE, PRECISIONS

_DASH = "\u2013"
_NOTHING = _DASH
LEGEND = (
    "The engine's times are medians. Peers are given as time / engine's time in the same round, median (p10"
    f"{_DASH}p90), each in its best batching; above 1 the engine is faster. Share: operations without "
    "padding, as a share of the machine's multiply-add peak measured just before."
)


def markdown(results: dict[str, Any]) -> str:
    """The whole document."""
    parts = [_heading(results)]
    for model in results["models"]:
        parts.append(f"## {model['name']}")
        for threads in dict.fromkeys(workload["threads"] for workload in model["work"]):
            rows = [workload for workload in model["work"] if workload["threads"] == threads]
            for precision in PRECISIONS:
                table = _speed(rows, precision)
                if table:
                    parts += [f"### {precision}, {_threads(threads)}", table]
        if model["memory"]:
            parts += ["### Load and memory", _memory(model["memory"])]
        absent = _left_out(model)
        if absent:
            parts.append(absent)
    return "\n\n".join(parts) + "\n"


def fastest_run(
    workload: dict[str, Any], peer: str, precision: str, variant: str = ""
) -> dict[str, Any] | None:
    """A contender's fastest run of one workload, by its ratio to the engine, or by time if it has none."""
    name = " ".join(part for part in (peer, variant, precision) if part)
    timed = [e for e in workload["entrants"] if e["contender"] == name and "ms" in e and "fault" not in e]
    return min(timed, key=_slowness, default=None)


def contender_names(rows: Iterable[dict[str, Any]], precision: str) -> list[str]:
    """Names of the contenders in a precision that have a run in any row, the engine first."""
    names = dict.fromkeys(run["contender"] for row in rows for run in row["entrants"])
    return [name for name in names if name.split()[-1] == precision]


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> str:
    """A Markdown table; the first ``text_columns`` are aligned left, the others right."""
    rule = [*["---"] * text_columns, *["---:"] * (len(headings) - text_columns)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows))


def _slowness(run: dict[str, Any]) -> float:
    figure = run.get("ratio") or run["ms"]
    return float(figure["median"])


def _heading(results: dict[str, Any]) -> str:
    machine, settings = results["machine"], results["settings"]
    memory = f", {machine['memory_bytes'] / 2**30:.0f} GiB" if machine["memory_bytes"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return "\n\n".join(
        [
            "# Engine and peers",
            f"{machine['cpu']} ({', '.join(machine['instructions'])}), {machine['cpus']} CPUs{memory}; "
            f"{machine['system']}, Python {machine['python']}; {versions}. {results['date']}, "
            f"{settings['rounds']} rounds.",
            LEGEND,
        ]
    )


def _speed(rows: Sequence[dict[str, Any]], precision: str) -> str:
    names = [name for name in contender_names(rows, precision) if name != f"{ENGINE} {precision}"]
    lines = []
    for row in rows:
        engine = fastest_run(row, ENGINE, precision)
        peers = [_cell(fastest_run(row, *split_name(name)), row) for name in names]
        if engine is None and all(cell == _NOTHING for cell in peers):
            continue
        lines.append([row["work"], *_engine_cells(engine), *peers])
    if not lines:
        return ""
    headings = [
        "work",
        "engine, ms",
        "GFLOP/s",
        "share",
        *(name.removesuffix(f" {precision}") for name in names),
    ]
    return table(headings, lines)


def split_name(name: str) -> tuple[str, str, str]:
    """The peer, precision and variant in a contender's name."""
    peer, *variant, precision = name.split()
    return peer, precision, " ".join(variant)


def _engine_cells(engine: dict[str, Any] | None) -> list[str]:
    if engine is None:
        return [_NOTHING] * 3
    share = f"{100 * engine['share']['median']:.0f} %" if "share" in engine else _NOTHING
    return [_significant(engine["ms"]["median"]), f"{engine['gflops']['median']:.0f}", share]


def _cell(run: dict[str, Any] | None, row: dict[str, Any]) -> str:
    if run is None:
        return _NOTHING
    batching = "" if len(set(row["lengths"])) == 1 else f", {run['form']}"
    if "ratio" not in run:
        return f"{_significant(run['ms']['median'])} ms{batching}"
    ratio = run["ratio"]
    return f"{ratio['median']:.2f} ({ratio['p10']:.2f}{_DASH}{ratio['p90']:.2f}){batching}"


def _memory(rows: Iterable[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        if "peak_bytes" not in row:
            lines.append([row["contender"], *[_NOTHING] * 4])
            continue
        sizes = (row["resident_bytes"], row["library_bytes"], row["peak_bytes"])
        lines.append(
            [
                row["contender"],
                *(f"{size / 1e6:.0f}" for size in sizes),
                f"{row['load_s'] + row['first_answer_s']:.2f}",
            ]
        )
    headings = ("contender", "resident, MB", "of it the library", "peak, MB", "load to first answer, s")
    return table(headings, lines)


def _left_out(model: dict[str, Any]) -> str:
    """Why contenders are missing from the tables."""
    reasons: dict[str, None] = {}
    for report in (*model["contenders"], *model["memory"]):
        if "unavailable" in report:
            reasons[f"* {report['contender']}: {report['unavailable']}"] = None
    for row in model["work"]:
        for run in row["entrants"]:
            if "fault" in run:
                what = f"{run['contender']}, {row['work']}, {run['form']}"
                reasons[f"* {what}: {run['fault']}"] = None
    return "\n".join(["Left out:", "", *reasons]) if reasons else ""


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _significant(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
