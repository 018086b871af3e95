"""The whole comparison: each model at each number of threads on each workload, as one JSON document."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from albert_runtime import ArtifactError
from albert_runtime.artifact import Artifact, Manifest
from albert_runtime.artifact.tasks import MODEL

from .footprint import footprints
from .machine import describe, today, versions
from .peers.base import Contender
from .prepare import Preparer
from .session import Log, Session, Settings
from .workload import select_workloads

SCHEMA = 1
MAX_THREADS = 16


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure of one artifact.

    Attributes:
        artifact: Path of the exported model.
        workloads: For each number of threads, the names of the workloads.
        memory: Whether to measure load time and memory, at the largest number of threads.
    """

    artifact: Path
    workloads: Mapping[int, tuple[str, ...]]
    memory: bool = True


def thread_counts(cpus: int, limit: int = MAX_THREADS) -> tuple[int, ...]:
    """Numbers of threads to measure: powers of two below the number of CPUs or the limit, and that number."""
    most = min(cpus, limit)
    return (*(2**power for power in range((most - 1).bit_length())), most)


def encoder_manifest(artifact: Path, *, any_precision: bool = False) -> Manifest:
    """The manifest of an artifact that can be benchmarked: an encoder with a pooler, in fp32.

    Args:
        artifact: Any path of the artifact.
        any_precision: Accept weights of any precision.

    Raises:
        ArtifactError: It cannot be; the message says what to export instead.
    """
    found = Artifact.open(artifact)
    if found.manifest is None:
        raise ArtifactError(f"{artifact} has no manifest, which the engine needs; export the model again")
    if found.manifest.task != MODEL or not found.manifest.config.add_pooling_layer:
        raise ArtifactError(
            f"{artifact} is a model for {found.manifest.task}, encoders with a pooler are compared; "
            f"export it with albert-export --task {MODEL}"
        )
    if found.manifest.precision != "fp32" and not any_precision:
        raise ArtifactError(
            f"{artifact} stores its weights in {found.manifest.precision}, but all peers must start from the "
            "same float32 weights; export it without a precision"
        )
    return found.manifest


def compare(
    plans: Sequence[Plan],
    contenders: Sequence[Contender],
    settings: Settings,
    scratch: Path,
    log: Log,
    on_update: Callable[[dict[str, Any]], None] = lambda results: None,
) -> dict[str, Any]:
    """Measure all plans.

    Args:
        plans: What to measure.
        contenders: What takes part, the reference among them.
        settings: How to time it.
        scratch: Folder for prepared files and logs.
        log: Prints a line of progress.
        on_update: Called with the results so far after each workload.

    Returns:
        The results, ready for JSON.

    Raises:
        ArtifactError: An artifact is not an encoder.
        ProcessFailed: The engine cannot answer in fp32.
    """
    peers = dict.fromkeys(contender.peer for contender in contenders)
    results: dict[str, Any] = {
        "schema": SCHEMA,
        "date": today(),
        "machine": describe(),
        "versions": versions(peers),
        "settings": {"rounds": settings.rounds, "turn_seconds": settings.turn_seconds},
        "models": [],
    }
    for number, plan in enumerate(plans):
        manifest = encoder_manifest(plan.artifact)
        max_threads = max(plan.workloads)
        preparer = Preparer(plan.artifact, scratch / str(number), max_threads)
        model: dict[str, Any] = {
            "name": manifest.name,
            "weights": dict(manifest.weights_origin),
            "weights_bytes": manifest.files["weights"].size,
            "config": manifest.config.to_dict(),
            "contenders": [],
            "work": [],
            "memory": [],
        }
        results["models"].append(model)
        for threads, names in plan.workloads.items():
            workloads = select_workloads(names, manifest.config)
            if not workloads:
                continue
            log(f"{manifest.name}, {threads} threads")
            with Session(preparer, manifest.config, threads, settings, log) as session:
                started = session.start(contenders, any(workload.is_mixed for workload in workloads))
                model["contenders"] += [{"threads": threads, **report} for report in started]
                for workload in workloads:
                    model["work"].append(session.measure(workload))
                    on_update(results)
        if plan.memory:
            size = manifest.files["weights"].size
            model["memory"] = footprints(preparer, manifest.config, size, contenders, max_threads, log)
            on_update(results)
    return results
