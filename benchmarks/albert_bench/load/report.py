"""The load results as tables in Markdown."""

from collections.abc import Iterable
from math import inf, isfinite
from statistics import median
from typing import Any

from ..report import table

P99_BOUNDS_MS = (250.0, 500.0, 1000.0)


def markdown(results: dict[str, Any]) -> str:
    """The whole document: capacity, throughput within bounds on the 99th percentile, and each step."""
    machine = results["machine"]
    bounds = [f"answers/s at p99 <= {bound:.0f} ms" for bound in P99_BOUNDS_MS]
    lines = [
        f"# {results['model']} served, {results['date']}",
        "",
        f"{machine['cpu']}, {machine['cpus']} CPUs, Python {machine['python']}. Requests are single",
        f"sequences of mixed lengths, {results['mean_tokens']} tokens on average, and ask for one output as",
        "bytes. Client and server share the machine.",
        "",
    ]
    rows = []
    for name, found in results["capacity"].items():
        within = [throughput_within(results, name, bound) for bound in P99_BOUNDS_MS]
        rows.append(
            [
                name,
                f"{median(one['alone']['p50'] for one in found):.1f}",
                f"{median(one['busy']['answers_per_second'] for one in found):.1f}",
                *("-" if value is None else f"{value:.1f}" for value in within),
            ]
        )
    lines.append(table(["server", "one client: p50, ms", "32 clients: answers/s", *bounds], rows))
    lines += ["", "Open loop; latencies in ms, from the moment a request was due:", ""]
    rows = []
    for share, name, turns in by_step(results):
        refused = sum(
            count for turn in turns for status, count in turn["statuses"].items() if status != "200"
        )
        cells = [_shown(_median(turns, key)) for key in ("answers_per_second", "p50", "p95", "p99")]
        rate = turns[0]["rate"]
        rows.append([f"{rate:.1f} ({share:.0%})", name, *cells, str(refused or "")])
    headings = ["offered/s", "server", "answers/s", "p50", "p95", "p99", "not answered"]
    lines.append(table(headings, rows, text_columns=2))
    return "\n".join(lines) + "\n"


def by_step(results: dict[str, Any]) -> Iterable[tuple[float, str, list[dict[str, Any]]]]:
    """The turns of each step: an offered load and a server."""
    steps: dict[tuple[float, str], list[dict[str, Any]]] = {}
    for turn in results["ladder"]:
        steps.setdefault((turn["share"], turn["server"]), []).append(turn)
    return [(share, name, turns) for (share, name), turns in steps.items()]


def median_p99(turns: list[dict[str, Any]]) -> float:
    """The median p99 of some turns in ms; a turn without answers counts as infinitely late."""
    return _median(turns, "p99")


def throughput_within(results: dict[str, Any], name: str, bound: float) -> float | None:
    """The most answers per second with a median p99 within ``bound`` ms; None if it was never within.

    Interpolates between steps. Counts answers rather than offered requests, because a short turn may stay
    within the bound at a load beyond the server's capacity.
    """
    points = []  # by rising load
    for _, server, turns in sorted(by_step(results), key=lambda step: step[0]):
        if server == name:
            points.append((_median(turns, "answers_per_second"), median_p99(turns)))
    within = [index for index, (_, p99) in enumerate(points) if p99 <= bound]
    if not within:
        return None
    # The last one: a bad moment at a smaller load must not count against a server.
    answers, p99 = points[within[-1]]
    if within[-1] + 1 < len(points):
        more, later = points[within[-1] + 1]
        if isfinite(later):
            return answers + (more - answers) * (bound - p99) / (later - p99)
    return answers


def _median(turns: list[dict[str, Any]], key: str) -> float:
    return float(median(inf if turn[key] is None else turn[key] for turn in turns))


def _shown(value: float) -> str:
    return f"{value:.1f}" if isfinite(value) else "-"
