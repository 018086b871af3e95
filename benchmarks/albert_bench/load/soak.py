"""`python -m albert_bench.load.soak`: overload a server for minutes, and watch its memory and its errors.

It must answer with nothing but 200, 429 and 503, break no connection, give every answer the id of its
request, and use no more memory as time goes on. With --reload-every its model is replaced again and again, by
one with other weights and back; then every answer must also have the bits of the version that was current.
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..compare import encoder_manifest
from ..machine import describe, today
from ..output import log
from .command import measure_to, parser
from .generators import Target, closed_loop, open_loop
from .reloads import Reloads, answers_of, place, two_versions
from .servers import ENGINE, RunningServer, running
from .sweep import make_requests, sequences, smallest_output, summarize

_SAMPLE_SECONDS = 2.0
_CLIENTS = 32
_CAPACITY_SECONDS = 10.0
_ALLOWED = frozenset(("200", "429", "503"))


async def _sampled(server: RunningServer, samples: list[int]) -> None:
    while True:
        samples.append(server.resident_bytes())
        await asyncio.sleep(_SAMPLE_SECONDS)


async def _soak(
    server: RunningServer, target: Target, rate: float, seconds: float, reloads: Reloads | None, every: float
) -> dict[str, Any]:
    samples: list[int] = []
    sampling = asyncio.ensure_future(_sampled(server, samples))
    reloading = None if reloads is None else asyncio.ensure_future(reloads.run(every))
    load = await open_loop(target, rate, seconds)
    sampling.cancel()
    if reloading is not None:
        if reloading.done():
            reloading.result()  # it ends only with an error
        reloading.cancel()
    third = max(1, len(samples) // 3)
    return {
        **summarize(load),
        "resident_mib_middle_third": round(max(samples[third : 2 * third] or samples) / 2**20, 1),
        "resident_mib_last_third": round(max(samples[-third:]) / 2**20, 1),
    }


def measure(
    artifact: Path, minutes: float, share: float, reload_every: float | None = None
) -> dict[str, Any]:
    """Measure the server's capacity, then overload it; the results, ready for JSON.

    Args:
        artifact: The artifact; with ``reload_every`` a copy of it is served, and replaced.
        minutes: How long.
        share: Offered load as a share of capacity.
        reload_every: Seconds between reloads; None for none.
    """
    manifest = encoder_manifest(artifact, any_precision=True)
    with tempfile.TemporaryDirectory() as scratch:
        served, versions, expected = artifact, list[Path](), list[list[bytes]]()
        if reload_every is not None:
            log("computing the answers of both versions")
            versions = two_versions(artifact, manifest, Path(scratch))
            rows, output = sequences(manifest), smallest_output(manifest)
            expected = [answers_of(version, rows, output) for version in versions]
            served = Path(scratch) / "served"
            served.mkdir()
            place(versions[0], served)
        with running(ENGINE, served) as server:
            target = Target("127.0.0.1", server.port, make_requests(manifest))
            asyncio.run(closed_loop(target, 2, 1.0))
            capacity = asyncio.run(closed_loop(target, _CLIENTS, _CAPACITY_SECONDS)).rate
            reloads = Reloads(server, served, versions, expected) if versions else None
            if reloads is not None:
                target = replace(target, is_right=reloads.is_right)
            soaked = asyncio.run(
                _soak(server, target, share * capacity, 60 * minutes, reloads, reload_every or 0.0)
            )
    if reloads is not None:
        soaked["reloads"] = reloads.count
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
    command.add_argument(
        "--reload-every",
        type=float,
        metavar="SECONDS",
        help="replace the model this often and check that the right version answers (default: never)",
    )
    options = command.parse_intermixed_args(arguments)
    name = "soak.json" if options.reload_every is None else "soak-reloads.json"
    results = measure_to(
        options.output / name,
        lambda: measure(options.artifact, options.minutes, options.share, options.reload_every),
    )
    if results is None:
        return 1
    log(json.dumps(results, indent=1))
    return 0 if results["statuses"].keys() <= _ALLOWED else 1


if __name__ == "__main__":
    sys.exit(main())
