"""`python -m albert_bench.load.policies`: compare scheduling policies, in one process, without a server.

A policy says which request runs next and how many tokens a batch may hold. All policies get the same
arrivals: single sequences of mixed lengths at random moments, and now and then a large request, such as a
batch job sends among interactive users.
"""

import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from albert_runtime import Predictor
from albert_runtime.scheduler import DEFAULT_TOKENS, Request, Scheduler
from albert_runtime.scheduler import PATIENCE as USUAL_PATIENCE
from albert_runtime.threads import available_cpus

from ..compare import encoder_manifest
from ..machine import describe, today
from ..output import log
from ..workload import Rows, mixed
from .command import measure_to, parser

TOKENS = (64, 128, 256, 1024, 4096)
PATIENCE = (0.0, 1.0, 4.0, 16.0)
_SEQUENCES = 512
_JOB_ROWS, _JOB_SHARE = 64, 0.01  # one request in a hundred is a large one of 64 sequences


def arrivals(rows: Rows, rate: float, seconds: float, seed: int) -> list[tuple[float, Rows]]:
    """Requests at ``rate`` sequences per second: the moment each is due, and its sequences."""
    generator = np.random.default_rng(seed)
    requests_per_second = rate / (1 - _JOB_SHARE + _JOB_SHARE * _JOB_ROWS)
    moments = np.cumsum(
        generator.exponential(1 / requests_per_second, int(2 * requests_per_second * seconds) + 8)
    )
    found = []
    for moment in moments[moments < seconds]:
        count = _JOB_ROWS if generator.random() < _JOB_SHARE else 1
        found.append((float(moment), [rows[index] for index in generator.integers(0, len(rows), count)]))
    return found


def turn(
    predictor: Predictor, plan: Sequence[tuple[float, Rows]], tokens: int, patience: float
) -> dict[str, Any]:
    """Latencies of single sequences and of large requests, in milliseconds from when they were due."""
    manifest = predictor.manifest
    assert manifest is not None
    scheduler = Scheduler(
        predictor.scheduler.run,
        max_batch_tokens=tokens,
        max_queue=1 << 20,
        max_queue_delay=0.0,
        padded=False,
        is_per_token=manifest.head.is_per_token,
        patience=patience,
    )
    singles: list[float] = []
    jobs: list[float] = []
    began = time.monotonic()
    futures = []
    for moment, rows in plan:
        time.sleep(max(0.0, began + moment - time.monotonic()))
        future = scheduler.submit(Request(predictor.pack(rows), ("pooled_output",)))
        into = jobs if len(rows) > 1 else singles
        future.add_done_callback(partial(_note, began + moment, into))
        futures.append(future)
    for future in futures:
        future.result()
    scheduler.close()
    return {
        "seconds": round(time.monotonic() - began, 2),
        "singles": _percentiles(singles),
        "jobs": _percentiles(jobs),
    }


def _note(due: float, into: list[float], future: object) -> None:
    into.append(1000 * (time.monotonic() - due))


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return (
        {f"p{share}": round(float(np.percentile(values, share)), 1) for share in (50, 95, 99)}
        if values
        else {}
    )


def measure(artifact: Path, seconds: float, rounds: int, shares: Sequence[float]) -> dict[str, Any]:
    """Measure all policies on the same arrivals, turn by turn; the results, ready for JSON."""
    manifest = encoder_manifest(artifact)
    predictor = Predictor(artifact, num_threads=available_cpus())
    rows = mixed(_SEQUENCES, manifest.config.max_position_embeddings).rows(manifest.config)
    began = time.monotonic()
    for row in rows[:128]:
        predictor.run([row], ["pooled_output"])
    alone = 128 / (time.monotonic() - began)
    policies = [(tokens, patience) for tokens in TOKENS for patience in (0.0, USUAL_PATIENCE)]
    policies += [(DEFAULT_TOKENS, one) for one in PATIENCE if (DEFAULT_TOKENS, one) not in policies]
    turns = []
    for share in shares:
        for number in range(rounds):
            plan = arrivals(rows, share * alone, seconds, number)
            for tokens, patience in policies:
                found = turn(predictor, plan, tokens, patience)
                turns.append(
                    {"share": share, "round": number, "tokens": tokens, "patience": patience, **found}
                )
                log(f"{share:4.0%} {tokens:5} tokens, patience {patience}: {found}")
    return {
        "date": today(),
        "machine": describe(),
        "model": manifest.name,
        "one_by_one_per_second": round(alone, 2),
        "turns": turns,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    command = parser("albert_bench.load.policies", __doc__)
    command.add_argument("--seconds", type=float, default=10.0, help="length of a turn (default: 10)")
    command.add_argument("--rounds", type=int, default=2, help="turns of each policy (default: 2)")
    command.add_argument(
        "--shares",
        type=float,
        nargs="+",
        default=[0.5, 0.8, 0.95],
        help="offered loads, as shares of the throughput one by one (default: 0.5 0.8 0.95)",
    )
    options = command.parse_intermixed_args(arguments)
    results = measure_to(
        options.output / "policies.json",
        lambda: measure(options.artifact, options.seconds, options.rounds, options.shares),
    )
    return 0 if results is not None else 1


if __name__ == "__main__":
    sys.exit(main())
