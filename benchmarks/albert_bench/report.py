"""The results as Markdown: the engine's times and shares of the ceiling, peers' times as multiples of it."""

from collections.abc import Iterable, Sequence
from typing import Any

from .peers.base import ENGINE, PRECISIONS

_DASH = "\u2013"
_NOTHING = _DASH
LEGEND = (
    "Times of the engine are medians; peers are given as time / engine's time in the same round, median (p10"
    f"{_DASH}p90), each in its best form; above 1 the engine is faster. Share: useful operations, no "
    "padding, of the multiply-add ceiling probed just before."
)


def markdown(results: dict[str, Any]) -> str:
    """The whole document."""
    parts = [_heading(results)]
    for model in results["models"]:
        parts.append(f"## {model['name']}")
        for threads in dict.fromkeys(work["threads"] for work in model["work"]):
            rows = [work for work in model["work"] if work["threads"] == threads]
            for precision in PRECISIONS:
                table = _speed(rows, precision)
                if table:
                    parts += [f"### {precision}, {_threads(threads)}", table]
        if model["memory"]:
            parts += ["### Load and memory", _memory(model["memory"])]
        absent = _absent(model)
        if absent:
            parts.append(absent)
    return "\n\n".join(parts) + "\n"


def best(work: dict[str, Any], peer: str, precision: str, variant: str = "") -> dict[str, Any] | None:
    """The fastest form of a contender on one work, by its ratio to the engine, else by its time."""
    name = " ".join(part for part in (peer, variant, precision) if part)
    timed = [e for e in work["entrants"] if e["contender"] == name and "ms" in e and "fault" not in e]
    return min(timed, key=_slowness, default=None)


def contenders(rows: Iterable[dict[str, Any]], precision: str) -> list[str]:
    """Names of the contenders of a precision that were entered in any row, the engine first."""
    names = dict.fromkeys(entrant["contender"] for row in rows for entrant in row["entrants"])
    return [name for name in names if name.split()[-1] == precision]


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, the first column to the left, the others to the right."""
    rule = ["---", *["---:"] * (len(headings) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows))


def _slowness(entrant: dict[str, Any]) -> float:
    figure = entrant.get("ratio") or entrant["ms"]
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
    names = [name for name in contenders(rows, precision) if name != f"{ENGINE} {precision}"]
    lines = []
    for row in rows:
        engine = best(row, ENGINE, precision)
        peers = [_cell(best(row, *split_name(name)), row) for name in names]
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
    """Peer, precision and variant of a contender's name."""
    peer, *variant, precision = name.split()
    return peer, precision, " ".join(variant)


def _engine_cells(engine: dict[str, Any] | None) -> list[str]:
    if engine is None:
        return [_NOTHING] * 3
    share = f"{100 * engine['share']['median']:.0f} %" if "share" in engine else _NOTHING
    return [_significant(engine["ms"]["median"]), f"{engine['gflops']['median']:.0f}", share]


def _cell(entrant: dict[str, Any] | None, row: dict[str, Any]) -> str:
    if entrant is None:
        return _NOTHING
    form = "" if len(set(row["lengths"])) == 1 else f", {entrant['form']}"
    if "ratio" not in entrant:
        return f"{_significant(entrant['ms']['median'])} ms{form}"
    ratio = entrant["ratio"]
    return f"{ratio['median']:.2f} ({ratio['p10']:.2f}{_DASH}{ratio['p90']:.2f}){form}"


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


def _absent(model: dict[str, Any]) -> str:
    """Why contenders are missing from the tables."""
    reasons: dict[str, None] = {}
    for report in (*model["contenders"], *model["memory"]):
        if "unavailable" in report:
            reasons[f"* {report['contender']}: {report['unavailable']}"] = None
    for row in model["work"]:
        for entrant in row["entrants"]:
            if "fault" in entrant:
                what = f"{entrant['contender']}, {row['work']}, {entrant['form']}"
                reasons[f"* {what}: {entrant['fault']}"] = None
    return "\n".join(["Left out:", "", *reasons]) if reasons else ""


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _significant(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
