"""The backends in the order in which ``auto`` tries them, and the choice among them."""

import logging
from dataclasses import replace
from importlib import import_module

from ..artifact.artifact import Artifact
from ..errors import BackendError, WrongSettingError
from .base import Backend, Options, one_line

__all__ = [
    "DEVICES",
    "NAMES",
    "PRECISIONS",
    "PROVABLE",
    "PROVABLE_PRECISIONS",
    "Backend",
    "Options",
    "check_isa",
    "choose",
]

_log = logging.getLogger("albert_runtime")

# (name, device) -> (module, class), in the order of auto; of a backend's devices the first is the usual one.
# Modules are imported when asked for.
_BACKENDS = {
    ("tensorrt", "gpu"): ("tensorrt", "TensorRtBackend"),
    ("gpu", "gpu"): ("gpu", "GpuBackend"),
    ("cuda", "gpu"): ("cuda", "CudaBackend"),
    ("native", "cpu"): ("native", "NativeBackend"),
    ("onnxruntime", "cpu"): ("onnxruntime", "OnnxRuntimeBackend"),
    ("paddle", "cpu"): ("paddle", "PaddleBackend"),
    ("paddle", "gpu"): ("paddle_gpu", "PaddleGpuBackend"),
}
NAMES = tuple(dict.fromkeys(name for name, _ in _BACKENDS))
DEVICES = ("cpu", "gpu")
# What our engines compute in, whatever the artifact stores; the others compute what it stores. The CPU engine
# widens a stored fp16 to fp32: processors multiply fp16 no faster.
_COMPUTED = {"gpu": ("fp32", "tf32", "fp16", "bf16", "int8"), "native": ("fp32", "bf16", "int8")}
PRECISIONS = _COMPUTED["gpu"]
# The backend whose results have the same bits on every machine, and what it computes in.
PROVABLE = "native"
PROVABLE_PRECISIONS = _COMPUTED[PROVABLE]


def choose(name: str, artifact: Artifact, options: Options) -> tuple[Backend, dict[str, str]]:
    """The named backend, or for ``auto`` the first that works; with it, why each one before it was skipped.

    Each refusal is logged in one line. BackendError says what a named backend lacks, or what all lack.
    """
    if options.precision not in PRECISIONS:
        raise BackendError(
            f"precision {options.precision!r} is unknown; choose one of auto, {', '.join(PRECISIONS)}"
        )
    if options.device not in ("auto", *DEVICES):
        raise BackendError(f"device {options.device!r} is unknown; choose one of auto, {', '.join(DEVICES)}")
    if name != "auto":
        if name not in NAMES:
            raise BackendError(f"backend {name!r} is unknown; choose one of auto, {', '.join(NAMES)}")
        return _build(name, artifact, options, named=True), {}
    skipped: dict[str, str] = {}
    for candidate in NAMES:
        if not _places(candidate, options.device):
            continue
        try:
            return _build(candidate, artifact, options, named=False), skipped
        except WrongSettingError:
            raise
        except BackendError as error:
            skipped[candidate] = str(error)
            _log.info("%s: not on %s: %s", artifact.stem, candidate, error)
    reasons = "; ".join(f"{candidate}: {reason}" for candidate, reason in skipped.items())
    raise BackendError(f"no backend can run {artifact.stem}: {reasons}")


def _places(name: str, device: str) -> list[str]:
    """Where the backend may run if the user asked for ``device``."""
    return [place for known, place in _BACKENDS if known == name and device in ("auto", place)]


def _stored(artifact: Artifact) -> str:
    return "fp32" if artifact.manifest is None else artifact.manifest.precision


def _build(name: str, artifact: Artifact, options: Options, *, named: bool) -> Backend:
    places = _places(name, options.device)
    if not places:
        able = ", ".join(other for other in NAMES if _places(other, options.device))
        raise BackendError(f"{name} does not run on device {options.device!r}; choose one of {able}")
    # A build takes minutes, so only who asks for a backend by name gets one.
    options = replace(options, device=places[0], named=named)
    stored = _stored(artifact)
    if options.precision not in (stored, *_COMPUTED.get(name, ())):
        able = " or ".join(
            f"backend={other!r}" for other, computed in _COMPUTED.items() if options.precision in computed
        )
        raise BackendError(
            f"{name} does not run {artifact.stem}, exported in {stored}, in {options.precision}; use {able}"
        )
    try:
        module_name, class_name = _BACKENDS[name, options.device]
        module = import_module(f".{module_name}", __package__)
    except ImportError as error:  # only the extension is imported with its backend's module
        raise BackendError(
            f"the compiled extension does not load ({one_line(error)}); "
            "pip install --force-reinstall albert-runtime"
        ) from None
    backend: Backend = getattr(module, class_name)(artifact, options)
    artifact.check_unchanged()
    return backend


def check_isa() -> None:
    """WrongSettingError if ALBERT_FORCE_ISA names no instruction set of this machine."""
    try:
        native = import_module(".native", __package__)
    except ImportError:  # told where the engine is asked for
        return
    native.chosen_isa()
