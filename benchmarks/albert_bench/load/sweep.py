"""`python -m albert_bench.load`: throughput and latency of servers against offered load.

First each server's capacity is measured in a closed loop; then all get the same loads in an open loop, turn
by turn, as shares of the best one's capacity, until they are late beyond use. Requests are single sequences
of mixed lengths.
"""

import argparse
import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from albert_runtime import AlbertError
from albert_runtime.artifact.manifest import Manifest

from ..cli import complain, say
from ..compare import manifest_of
from ..machine import describe, today
from ..process import ChildFailed
from ..workload import mixed
from .client import request_bytes
from .generators import ID, Load, Target, closed_loop, open_loop
from .plots import draw
from .report import P99_BOUNDS_MS, markdown, median_p99
from .servers import CONTENDERS, Contender, running

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2)
_TOO_LATE_MS = 4 * max(P99_BOUNDS_MS)  # a server whose p99 is beyond gets no greater load
_CLIENTS = 32
_SEQUENCES = 512


def requests_of(manifest: Manifest) -> list[tuple[bytes, int]]:
    """Seeded requests of mixed lengths, each for the smallest output, and their tokens."""
    config = manifest.config
    output = "pooled_output" if "pooled_output" in manifest.outputs else manifest.outputs[-1]
    rows = mixed(_SEQUENCES, config.max_position_embeddings).rows(config)
    path = f"/v2/models/{manifest.name}/infer"
    return [(request_bytes(path, ids, output, ID), len(ids)) for ids in rows]


def figures(load: Load) -> dict[str, Any]:
    """A turn, ready for JSON; milliseconds."""
    quantiles = {f"p{share:g}": load.percentile(share / 100) for share in (50, 95, 99)}
    return {
        "offered": load.offered,
        "seconds": round(load.seconds, 3),
        "answers_per_second": round(load.rate, 2),
        "tokens_per_second": round(load.tokens / load.seconds, 1),
        "statuses": dict(load.statuses),
        **{name: None if value is None else round(1000 * value, 2) for name, value in quantiles.items()},
    }


def capacity(contender: Contender, artifact: Path, requests: Any, seconds: float) -> dict[str, Any]:
    """Closed loop with many clients, and with one."""
    with running(contender, artifact) as server:
        target = Target("127.0.0.1", server.port, requests)
        asyncio.run(closed_loop(target, 2, min(seconds, 3.0)))  # warm
        alone = asyncio.run(closed_loop(target, 1, seconds))
        busy = asyncio.run(closed_loop(target, _CLIENTS, seconds))
    return {"alone": figures(alone), "busy": figures(busy)}


def measure(artifact: Path, seconds: float, rounds: int) -> dict[str, Any]:
    """All servers in turn; ready for JSON."""
    manifest = manifest_of(artifact, any_precision=True)
    requests = requests_of(manifest)
    results: dict[str, Any] = {
        "date": today(),
        "machine": describe(),
        "model": manifest.name,
        "mean_tokens": round(float(np.mean([tokens for _, tokens in requests])), 1),
        "seconds": seconds,
        "capacity": {},
        "ladder": [],
    }
    for number in range(rounds):
        for contender in CONTENDERS:
            found = capacity(contender, artifact, requests, seconds)
            results["capacity"].setdefault(contender.name, []).append(found)
            say(f"{contender.name}: {found['busy']['answers_per_second']:.1f} answers/s, round {number + 1}")
    best = max(
        median(one["busy"]["answers_per_second"] for one in found) for found in results["capacity"].values()
    )
    results["best_per_second"] = round(best, 2)
    contenders: tuple[Contender, ...] = CONTENDERS
    for share in SHARES:
        turns: dict[str, list[dict[str, Any]]] = {contender.name: [] for contender in contenders}
        for number in range(rounds):
            for contender in contenders:
                with running(contender, artifact) as server:
                    target = Target("127.0.0.1", server.port, requests)
                    asyncio.run(closed_loop(target, 2, 1.0))
                    load = asyncio.run(open_loop(target, share * best, seconds, seed=number))
                turn = {"server": contender.name, "share": share, "round": number, **figures(load)}
                turns[contender.name].append({**turn, "rate": round(share * best, 2)})
                say(f"{share:4.0%} {contender.name}: p99 {turn['p99']} ms, {turn['statuses']}")
        results["ladder"] += [turn for one in turns.values() for turn in one]
        contenders = tuple(one for one in contenders if median_p99(turns[one.name]) < _TOO_LATE_MS)
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m albert_bench.load", description=__doc__)
    parser.add_argument("artifact", type=Path, help="an exported model")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, default=Path("albert-bench"))
    parser.add_argument("--seconds", type=float, default=10.0, help="of a turn")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args(arguments)
    try:
        results = measure(options.artifact, options.seconds, options.rounds)
    except (AlbertError, ChildFailed) as error:
        return complain(str(error), 1)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "load.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    table = markdown(results)
    (options.output / "load.md").write_text(table, "utf-8")
    draw(results, options.output)
    say(table)
    return 0
