"""The backends in the order in which ``auto`` tries them, and the choice among them."""

import logging
import os
from importlib import import_module

from ..artifact import Artifact
from ..errors import BackendError
from .base import Backend, Options, one_line

__all__ = ["COMPUTED", "GPU", "NAMES", "Backend", "Options", "available_cpus", "choose"]

_log = logging.getLogger("albert_runtime")

# Each in the module of its name, imported when asked for.
_CLASSES = {
    "tensorrt": "TensorRtBackend",
    "cuda": "CudaBackend",
    "native": "NativeBackend",
    "onnxruntime": "OnnxRuntimeBackend",
    "paddle": "PaddleBackend",
}
NAMES = tuple(_CLASSES)
GPU = ("tensorrt", "cuda")
ENGINE = "native"
# What the engine computes in; the others compute what the artifact stores. It widens fp16 to fp32: processors
# multiply fp16 no faster.
COMPUTED = ("fp32", "bf16", "int8")


def choose(name: str, artifact: Artifact, options: Options) -> tuple[Backend, dict[str, str]]:
    """The named backend, or for ``auto`` the first that works; with it, why each one before it was skipped.

    Each refusal is logged in one line. BackendError says what a named backend lacks, or what all lack.
    """
    known = dict.fromkeys((*COMPUTED, _stored(artifact)))
    if options.precision not in known:
        raise BackendError(
            f"precision {options.precision!r} is unknown; choose one of auto, {', '.join(known)}"
        )
    if name != "auto":
        if name not in NAMES:
            raise BackendError(f"backend {name!r} is unknown; choose one of auto, {', '.join(NAMES)}")
        return _build(name, artifact, options, named=True), {}
    skipped: dict[str, str] = {}
    for candidate in NAMES:
        try:
            return _build(candidate, artifact, options, named=False), skipped
        except BackendError as error:
            skipped[candidate] = str(error)
            _log.info("%s: not on %s: %s", artifact.stem, candidate, error)
    reasons = "; ".join(f"{candidate}: {reason}" for candidate, reason in skipped.items())
    raise BackendError(f"no backend can run {artifact.stem}: {reasons}")


def _stored(artifact: Artifact) -> str:
    return "fp32" if artifact.manifest is None else artifact.manifest.precision


def _build(name: str, artifact: Artifact, options: Options, *, named: bool) -> Backend:
    stored = _stored(artifact)
    if name != ENGINE and options.precision != stored:
        raise BackendError(
            f"{name} runs {artifact.stem} in {stored}, as it was exported; "
            f"precision {options.precision!r} needs backend={ENGINE!r}"
        )
    try:
        module = import_module(f".{name}", __name__)
    except ImportError as error:  # only the extension is imported with its backend's module
        raise BackendError(
            f"the compiled extension does not load ({one_line(error)}); "
            "pip install --force-reinstall albert-runtime"
        ) from None
    backend_class = getattr(module, _CLASSES[name])
    backend: Backend = (
        # A build takes minutes, so only who asks for TensorRT by name gets one.
        backend_class(artifact, options, may_build=named)
        if name == "tensorrt"
        else backend_class(artifact, options)
    )
    return backend


def available_cpus() -> int:
    """CPUs this process may really use: affinity and, where the extension works, the cgroup's quota."""
    try:
        return int(import_module("albert_runtime._native").available_cpus())
    except ImportError:
        return len(os.sched_getaffinity(0))
