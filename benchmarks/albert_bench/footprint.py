"""How long does a fresh process take to its first answer, and how much memory does it need?"""

from collections.abc import Sequence
from typing import Any

from albert_runtime import AlbertConfig

from .batching import WHOLE
from .peers.base import PEERS, Contender
from .prepare import Preparer
from .process import Process, ProcessFailed
from .session import Log
from .workload import uniform

TOKENS = 64
# The peers' tools take tens of minutes, and several times the weights in memory, to quantize anything larger.
MAX_PREPARED_BYTES = 500_000_000


def footprints(
    preparer: Preparer,
    config: AlbertConfig,
    weights_bytes: int,
    contenders: Sequence[Contender],
    threads: int,
    log: Log,
) -> list[dict[str, Any]]:
    """Measure each contender in a process of its own.

    Returns:
        For each contender, ready for JSON: seconds to import, to load and to answer one row of 64 tokens;
        memory gained and peak memory; or why it is unavailable.
    """
    rows = uniform(1, min(TOKENS, config.max_position_embeddings)).rows(config)
    found = []
    for contender in contenders:
        report: dict[str, Any] = {"contender": contender.name}
        found.append(report)
        log(f"{contender.name}: load and memory")
        # Fusing copies the weights, so fp32 is measured on the exported graph.
        needs_files = contender.precision in PEERS[contender.peer].prepared and contender.precision != "fp32"
        if needs_files and weights_bytes > MAX_PREPARED_BYTES:
            report["unavailable"] = f"not quantized: more than {MAX_PREPARED_BYTES // 10**6} MB of weights"
            continue
        process = None
        try:
            make_job = preparer.prepared_job if needs_files else preparer.unprepared_job
            process = Process(make_job(contender, threads))
            report |= process.load()
            report["first_answer_s"] = process.turn(rows, WHOLE, 0.0)
            report |= process.footprint()
        except ProcessFailed as error:
            report["unavailable"] = str(error)
        finally:
            if process is not None:
                process.close()
    return found
