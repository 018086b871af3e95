"""The whole comparison: every model, every number of threads, every work, and one document of results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from albert_runtime import ArtifactError
from albert_runtime.artifact import Artifact
from albert_runtime.manifest import Manifest
from albert_runtime.tasks import MODEL

from .footprint import footprints
from .machine import describe, today, versions
from .peers import Contender
from .session import Say, Session, Settings
from .work import MIXED, works
from .workshop import Workshop

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured of one artifact: the named work at these numbers of threads, and its memory."""

    artifact: Path
    work: tuple[str, ...]
    threads: tuple[int, ...]
    memory: bool = True


def manifest_of(artifact: Path) -> Manifest:
    """The manifest of an encoder; ArtifactError says what else it is and what to export."""
    found = Artifact.open(artifact)
    if found.manifest is None:
        raise ArtifactError(f"{artifact} has no manifest, which the engine needs; export the model again")
    if found.manifest.task != MODEL or not found.manifest.config.add_pooling_layer:
        raise ArtifactError(
            f"{artifact} is a model for {found.manifest.task}, encoders with a pooler are compared; "
            f"export it with albert-export --task {MODEL}"
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
        workshop = Workshop(plan.artifact, scratch / str(number), max(plan.threads))
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
        todo = works(plan.work, manifest.config)
        for threads in plan.threads if todo else ():
            say(f"{manifest.name}, {threads} threads")
            with Session(workshop, manifest.config, threads, settings, say) as session:
                started = session.start(contenders, any(work.name.startswith(MIXED) for work in todo))
                model["contenders"] += [{"threads": threads, **report} for report in started]
                for work in todo:
                    model["work"].append(session.measure(work))
                    changed(results)
        if plan.memory:
            size = manifest.files["weights"].size
            model["memory"] = footprints(workshop, manifest.config, size, contenders, max(plan.threads), say)
            changed(results)
    return results
