"""`python -m albert_bench.load`: measure throughput and latency of servers under rising load.

First each server's capacity is measured in a closed loop. Then all servers take turns at the same loads in
an open loop, in shares of the best one's capacity, until they are too late to be of use. Requests are single
sequences of mixed lengths.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from albert_runtime.artifact import Manifest

from ..compare import encoder_manifest
from ..machine import describe, today
from ..output import log
from ..workload import mixed
from .client import request_bytes
from .command import measure_to, parser
from .generators import ID, Load, Target, closed_loop, open_loop
from .plots import draw
from .report import P99_BOUNDS_MS, markdown, median_p99
from .servers import SERVERS, Server, running

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2)
_TOO_LATE_MS = 4 * max(P99_BOUNDS_MS)  # a server with a higher p99 gets no higher load
_CLIENTS = 32
_SEQUENCES = 512


def make_requests(manifest: Manifest) -> list[tuple[bytes, int]]:
    """Seeded requests of mixed lengths, each for the smallest output, with their numbers of tokens."""
    path, output = f"/v2/models/{manifest.name}/infer", smallest_output(manifest)
    return [(request_bytes(path, ids, output, ID), len(ids)) for ids in sequences(manifest)]


def sequences(manifest: Manifest) -> list[NDArray[np.int64]]:
    """The token ids of each request."""
    return list(mixed(_SEQUENCES, manifest.config.max_position_embeddings).rows(manifest.config))


def smallest_output(manifest: Manifest) -> str:
    """The output that the requests ask for."""
    return "pooled_output" if "pooled_output" in manifest.outputs else manifest.outputs[-1]


def summarize(load: Load) -> dict[str, Any]:
    """One turn, ready for JSON; latencies in milliseconds."""
    quantiles = {f"p{share:g}": load.percentile(share / 100) for share in (50, 95, 99)}
    return {
        "offered": load.offered,
        "seconds": round(load.seconds, 3),
        "answers_per_second": round(load.rate, 2),
        "tokens_per_second": round(load.tokens / load.seconds, 1),
        "statuses": dict(load.statuses),
        **{name: None if value is None else round(1000 * value, 2) for name, value in quantiles.items()},
    }


def measure_capacity(server: Server, artifact: Path, requests: Any, seconds: float) -> dict[str, Any]:
    """Closed loops with one client and with many; ready for JSON."""
    with running(server, artifact) as process:
        target = Target("127.0.0.1", process.port, requests)
        asyncio.run(closed_loop(target, 2, min(seconds, 3.0)))  # warm-up
        alone = asyncio.run(closed_loop(target, 1, seconds))
        busy = asyncio.run(closed_loop(target, _CLIENTS, seconds))
    return {"alone": summarize(alone), "busy": summarize(busy)}


def measure(artifact: Path, seconds: float, rounds: int) -> dict[str, Any]:
    """Measure all servers, turn by turn; the results, ready for JSON."""
    manifest = encoder_manifest(artifact, any_precision=True)
    requests = make_requests(manifest)
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
        for server in SERVERS:
            found = measure_capacity(server, artifact, requests, seconds)
            results["capacity"].setdefault(server.name, []).append(found)
            log(f"{server.name}: {found['busy']['answers_per_second']:.1f} answers/s, round {number + 1}")
    best = max(
        median(one["busy"]["answers_per_second"] for one in found) for found in results["capacity"].values()
    )
    results["best_per_second"] = round(best, 2)
    servers: tuple[Server, ...] = SERVERS
    for share in SHARES:
        turns: dict[str, list[dict[str, Any]]] = {server.name: [] for server in servers}
        for number in range(rounds):
            for server in servers:
                with running(server, artifact) as process:
                    target = Target("127.0.0.1", process.port, requests)
                    asyncio.run(closed_loop(target, 2, 1.0))
                    load = asyncio.run(open_loop(target, share * best, seconds, seed=number))
                turn = {"server": server.name, "share": share, "round": number, **summarize(load)}
                turns[server.name].append({**turn, "rate": round(share * best, 2)})
                log(f"{share:4.0%} {server.name}: p99 {turn['p99']} ms, {turn['statuses']}")
        results["ladder"] += [turn for one in turns.values() for turn in one]
        servers = tuple(one for one in servers if median_p99(turns[one.name]) < _TOO_LATE_MS)
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    command = parser("albert_bench.load", __doc__)
    command.add_argument("--seconds", type=float, default=10.0, help="length of a turn (default: 10)")
    command.add_argument("--rounds", type=int, default=2, help="turns at each load (default: 2)")
    options = command.parse_intermixed_args(arguments)
    results = measure_to(
        options.output / "load.json", lambda: measure(options.artifact, options.seconds, options.rounds)
    )
    if results is None:
        return 1
    text = markdown(results)
    (options.output / "load.md").write_text(text, "utf-8")
    draw(results, options.output)
    log(text)
    return 0
