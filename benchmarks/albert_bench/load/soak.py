"""`python -m albert_bench.load.soak`: overload a server for minutes, and watch its memory and its errors.

It must answer with nothing but 200, 429 and 503, break no connection, give every answer the id of its
request, and use no more memory as time goes on.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..compare import encoder_manifest
from ..machine import describe, today
from ..output import log
from .command import measure_to, parser
from .generators import Target, closed_loop, open_loop
from .servers import ENGINE, RunningServer, running
from .sweep import make_requests, summarize

_SAMPLE_SECONDS = 2.0
_CLIENTS = 32
_ALLOWED = frozenset(("200", "429", "503"))


async def _sampled(server: RunningServer, samples: list[int]) -> None:
    while True:
        samples.append(server.resident_bytes())
        await asyncio.sleep(_SAMPLE_SECONDS)


async def _soak(server: RunningServer, target: Target, rate: float, seconds: float) -> dict[str, Any]:
    samples: list[int] = []
    sampling = asyncio.ensure_future(_sampled(server, samples))
    load = await open_loop(target, rate, seconds)
    sampling.cancel()
    third = max(1, len(samples) // 3)
    return {
        **summarize(load),
        "resident_mib_middle_third": round(max(samples[third : 2 * third] or samples) / 2**20, 1),
        "resident_mib_last_third": round(max(samples[-third:]) / 2**20, 1),
    }


def measure(artifact: Path, minutes: float, share: float) -> dict[str, Any]:
    """Measure the server's capacity, then overload it; the results, ready for JSON."""
    manifest = encoder_manifest(artifact, any_precision=True)
    with running(ENGINE, artifact) as server:
        target = Target("127.0.0.1", server.port, make_requests(manifest))
        asyncio.run(closed_loop(target, 2, 1.0))
        capacity = asyncio.run(closed_loop(target, _CLIENTS, 10.0)).rate
        soaked = asyncio.run(_soak(server, target, share * capacity, 60 * minutes))
    return {
        "date": today(),
        "machine": describe(),
        "model": manifest.name,
        "capacity_per_second": round(capacity, 2),
        "offered_per_second": round(share * capacity, 2),
        **soaked,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 1 if any answer was wrong."""
    command = parser("albert_bench.load.soak", __doc__)
    command.add_argument("--minutes", type=float, default=10.0, help="how long (default: 10)")
    command.add_argument(
        "--share", type=float, default=1.2, help="offered load as a share of capacity (default: 1.2)"
    )
    options = command.parse_intermixed_args(arguments)
    results = measure_to(
        options.output / "soak.json", lambda: measure(options.artifact, options.minutes, options.share)
    )
    if results is None:
        return 1
    log(json.dumps(results, indent=1))
    return 0 if results["statuses"].keys() <= _ALLOWED else 1


if __name__ == "__main__":
    sys.exit(main())
