"""Load time and memory of a fresh process that loads a model and answers one short row."""

from collections.abc import Sequence
from typing import Any

from albert_runtime.artifact.config import AlbertConfig

from .batching import WHOLE
from .peers.base import PEERS, Contender
from .prepare import Workshop
from .process import Child, ChildFailed
from .session import Say
from .workload import uniform

TOKENS = 64
# Quantizing larger weights takes the peers' tools tens of minutes and several times their size in memory.
MAX_PREPARED_BYTES = 500_000_000


def footprints(
    workshop: Workshop,
    config: AlbertConfig,
    weights_bytes: int,
    contenders: Sequence[Contender],
    threads: int,
    say: Say,
) -> list[dict[str, Any]]:
    """For each contender, ready for JSON: seconds to import, to load and to answer, memory grown and peak."""
    rows = uniform(1, min(TOKENS, config.max_position_embeddings)).rows(config)
    found = []
    for contender in contenders:
        report: dict[str, Any] = {"contender": contender.name}
        found.append(report)
        say(f"{contender.name}: load and memory")
        # Fusing copies weights; what is measured in fp32 is the exported graph itself.
        needs_files = contender.precision in PEERS[contender.peer].prepared and contender.precision != "fp32"
        if needs_files and weights_bytes > MAX_PREPARED_BYTES:
            report["unavailable"] = f"not quantized: more than {MAX_PREPARED_BYTES // 10**6} MB of weights"
            continue
        child = None
        try:
            make = workshop.job if needs_files else workshop.unprepared
            child = Child(make(contender, threads))
            report |= child.load()
            report["first_answer_s"] = child.turn(rows, WHOLE, 0.0)
            report |= child.footprint()
        except ChildFailed as error:
            report["unavailable"] = str(error)
        finally:
            if child is not None:
                child.close()
    return found
