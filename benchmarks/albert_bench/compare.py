"""The whole comparison: every model, every number of threads, every work, and one document of results."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from albert_runtime import ArtifactError
from albert_runtime.artifact.artifact import Artifact
from albert_runtime.artifact.manifest import Manifest
from albert_runtime.artifact.tasks import MODEL

from .footprint import footprints
from .machine import describe, today, versions
from .peers.base import Contender
from .prepare import Workshop
from .session import Say, Session, Settings
from .workload import works

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured of one artifact: at each number of threads the named work, and its memory.

    Memory is measured, and files are prepared, at the most threads.
    """

    artifact: Path
    work: Mapping[int, tuple[str, ...]]
    memory: bool = True


def manifest_of(artifact: Path, *, any_precision: bool = False) -> Manifest:
    """The manifest of an encoder, of fp32 unless any will do; ArtifactError says what to export instead."""
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
            f"{artifact} stores its weights in {found.manifest.precision}, and every peer is given the same "
            "float32 ones; export it without a precision"
        )
    return found.manifest


def compare(
    plans: Sequence[Plan],
    contenders: Sequence[Contender],
    settings: Settings,
    scratch: Path,
    say: Say,
    changed: Callable[[dict[str, Any]], None] = lambda results: None,
) -> dict[str, Any]:
    """Measure all plans; the document of results. ``changed`` gets it after every work, as far as it is.

    Raises ArtifactError for what is no encoder, ChildFailed if the engine gives no answer in fp32.
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
        manifest = manifest_of(plan.artifact)
        most = max(plan.work)
        workshop = Workshop(plan.artifact, scratch / str(number), most)
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
        for threads, names in plan.work.items():
            todo = works(names, manifest.config)
            if not todo:
                continue
            say(f"{manifest.name}, {threads} threads")
            with Session(workshop, manifest.config, threads, settings, say) as session:
                started = session.start(contenders, any(work.is_mixed for work in todo))
                model["contenders"] += [{"threads": threads, **report} for report in started]
                for work in todo:
                    model["work"].append(session.measure(work))
                    changed(results)
        if plan.memory:
            size = manifest.files["weights"].size
            model["memory"] = footprints(workshop, manifest.config, size, contenders, most, say)
            changed(results)
    return results
