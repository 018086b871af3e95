"""The backends in the order in which ``auto`` tries them, and the choice among them."""

import os
from importlib import import_module

from ..artifact import Artifact
from ..errors import BackendError
from .base import Backend, one_line

__all__ = ["COMPUTED", "NAMES", "Backend", "available_cpus", "choose"]

# Each in the module of its name, imported when asked for.
_CLASSES = {"native": "NativeBackend", "onnxruntime": "OnnxRuntimeBackend", "paddle": "PaddleBackend"}
NAMES = tuple(_CLASSES)
ENGINE = "native"
# What the engine computes in; the others compute what the artifact stores. It widens fp16 to fp32: processors
# multiply fp16 no faster.
COMPUTED = ("fp32", "bf16", "int8")
_WIDENED = {"fp16": "fp32"}


def choose(name: str, artifact: Artifact, num_threads: int, precision: str) -> tuple[Backend, dict[str, str]]:
    """The named backend, or for ``auto`` the first that works; with it, why each one before it was skipped.

    BackendError says what a named backend lacks, or what all of them lack.
    """
    known = dict.fromkeys((*COMPUTED, _stored(artifact)))
    if precision not in known:
        raise BackendError(f"precision {precision!r} is unknown; choose one of auto, {', '.join(known)}")
    if name != "auto":
        if name not in NAMES:
            raise BackendError(f"backend {name!r} is unknown; choose one of auto, {', '.join(NAMES)}")
        return _build(name, artifact, num_threads, precision), {}
    skipped: dict[str, str] = {}
    for candidate in NAMES:
        try:
            return _build(candidate, artifact, num_threads, precision), skipped
        except BackendError as error:
            skipped[candidate] = str(error)
    reasons = "; ".join(f"{candidate}: {reason}" for candidate, reason in skipped.items())
    raise BackendError(f"no backend can run {artifact.stem}: {reasons}")


def _stored(artifact: Artifact) -> str:
    return "fp32" if artifact.manifest is None else artifact.manifest.precision


def _build(name: str, artifact: Artifact, num_threads: int, precision: str) -> Backend:
    stored = _stored(artifact)
    if name != ENGINE and precision != stored:
        raise BackendError(
            f"{name} runs {artifact.stem} in {stored}, as it was exported; "
            f"precision {precision!r} needs backend={ENGINE!r}"
        )
    try:
        module = import_module(f".{name}", __name__)
    except ImportError as error:  # only the extension is imported with its backend's module
        raise BackendError(
            f"the compiled extension does not load ({one_line(error)}); "
            "pip install --force-reinstall albert-runtime"
        ) from None
    backend_class = getattr(module, _CLASSES[name])
    if name == ENGINE:
        engine: Backend = backend_class(artifact, num_threads, _WIDENED.get(precision, precision))
        return engine
    backend: Backend = backend_class(artifact, num_threads)
    return backend


def available_cpus() -> int:
    """CPUs this process may really use: affinity and, where the extension works, the cgroup's quota."""
    try:
        return int(import_module("albert_runtime._native").available_cpus())
    except ImportError:
        return len(os.sched_getaffinity(0))
