"""`python -m albert_bench.load.soak`: minutes at more than a server can answer, its memory and its errors.

What must come of it: no status but 200, 429 and 503, no broken connection, every answer with the id of its
request, and memory that does not grow.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from albert_runtime import AlbertError

from ..cli import complain, say
from ..compare import manifest_of
from ..machine import describe, today
from ..process import ChildFailed
from .generators import Target, closed_loop, open_loop
from .servers import ENGINE, Running, running
from .sweep import figures, requests_of

_SAMPLE_SECONDS = 2.0
_CLIENTS = 32
_ALLOWED = frozenset(("200", "429", "503"))


async def _sampled(server: Running, samples: list[int]) -> None:
    while True:
        samples.append(server.resident_bytes())
        await asyncio.sleep(_SAMPLE_SECONDS)


async def _soak(server: Running, target: Target, rate: float, seconds: float) -> dict[str, Any]:
    samples: list[int] = []
    sampling = asyncio.ensure_future(_sampled(server, samples))
    load = await open_loop(target, rate, seconds)
    sampling.cancel()
    third = max(1, len(samples) // 3)
    return {
        **figures(load),
        "resident_mib_middle_third": round(max(samples[third : 2 * third] or samples) / 2**20, 1),
        "resident_mib_last_third": round(max(samples[-third:]) / 2**20, 1),
    }


def measure(artifact: Path, minutes: float, share: float) -> dict[str, Any]:
    """Capacity first, then the soak; ready for JSON."""
    manifest = manifest_of(artifact, any_precision=True)
    with running(ENGINE, artifact) as server:
        target = Target("127.0.0.1", server.port, requests_of(manifest))
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
    """Run the command; 1 if an answer was not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m albert_bench.load.soak", description=__doc__)
    parser.add_argument("artifact", type=Path, help="an exported encoder")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, default=Path("albert-bench"))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--share", type=float, default=1.2, help="of what 32 clients get answered")
    options = parser.parse_args(arguments)
    try:
        results = measure(options.artifact, options.minutes, options.share)
    except (AlbertError, ChildFailed) as error:
        return complain(str(error), 1)
    options.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1)
    (options.output / "soak.json").write_text(text + "\n", "utf-8")
    say(text)
    return 0 if results["statuses"].keys() <= _ALLOWED else 1


if __name__ == "__main__":
    sys.exit(main())
