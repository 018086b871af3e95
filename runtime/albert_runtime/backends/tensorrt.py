"""ONNX Runtime's TensorRT provider: engines built once for a model, a GPU and some shapes, and checked.

Building takes minutes, so ``auto`` uses an engine that is there and builds none. Engines lie in a folder
keyed by what they depend on; a note beside them says that one is built and was checked, or why it must not be
used. The check is against the CPU engine: an ALBERT in TensorRT 8 gave NaN in every row but the first
(NVIDIA/TensorRT#1550).
"""

import hashlib
import json
import logging
import os
import threading
import time
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact import Artifact
from ..batch import Limits, PackedBatch
from ..config import AlbertConfig
from ..errors import BackendError
from ..manifest import INPUTS, Manifest
from ..packing import pack
from ..tasks import MULTIPLE_CHOICE
from .base import Options, import_package
from .cuda import CUDA, CudaBackend, gpu_runtime
from .gpu import Gpu, find_gpu
from .onnxruntime import require_graph, usable_version

_log = logging.getLogger("albert_runtime")

PROVIDER = "TensorrtExecutionProvider"
EXTRA = "tensorrt"
NOTE = "albert-runtime.json"
DEFAULT_BATCH = 32
# Widths are rounded up to powers of two from here on: TensorRT is faster with few shapes, and padding to the
# next costs less than half of a pass.
LEAST_WIDTH = 16
# cosine of every vector, against the CPU engine in the same precision; fp32 is TF32 on the GPU.
_LEAST_COSINE = {"fp32": 0.999, "fp16": 0.999, "bf16": 0.999, "int8": 0.98}
_CHECKED_ROWS = 5


@dataclass(frozen=True)
class Profile:
    """The shapes that an engine takes: 1 to ``rows`` rows of 1 to ``columns`` columns."""

    rows: int
    columns: int

    @classmethod
    def of(cls, config: AlbertConfig, options: Options) -> "Profile":
        """From the Predictor's arguments; BackendError names one that is out of range."""
        positions = config.max_position_embeddings
        rows = DEFAULT_BATCH if options.max_batch is None else options.max_batch
        columns = positions if options.max_length is None else options.max_length
        for name, value, most in (("max_batch", rows, 4096), ("max_length", columns, positions)):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise BackendError(f"{name} is {value!r}; give a whole number from 1 to {most}")
        return cls(rows, columns)

    def width(self, columns: int) -> int:
        """The width that a pass of so many columns is rounded up to."""
        return min(max(LEAST_WIDTH, 1 << (columns - 1).bit_length()), self.columns)

    def settings(self) -> dict[str, str]:
        """As the provider's options; it is tuned for full batches of half the columns."""
        usual = self.width(max(1, self.columns // 2))
        return {
            f"trt_profile_{which}_shapes": ",".join(f"{name}:{rows}x{columns}" for name in INPUTS)
            for which, rows, columns in (
                ("min", 1, 1),
                ("opt", self.rows, usual),
                ("max", self.rows, self.columns),
            )
        }


class TensorRtBackend(CudaBackend):
    """One session whose engine takes the shapes of its profile."""

    name = "tensorrt"

    def __init__(self, artifact: Artifact, options: Options, *, may_build: bool) -> None:
        """Load the built engine, or build and check one where that is allowed.

        BackendError if there is no GPU, no TensorRT, no engine that may be used, or if the check fails.
        """
        require_graph(artifact)
        manifest = artifact.manifest
        if manifest is None:
            raise BackendError(f"TensorRT needs the manifest of {artifact.stem}; export the model again")
        if manifest.task == MULTIPLE_CHOICE:
            raise BackendError("engines of multiple choice are not built; use backend='cuda'")
        self.gpu = find_gpu()
        ort = gpu_runtime(PROVIDER)
        import_package("tensorrt", EXTRA)  # loads libnvinfer, which the provider does not find by itself
        self.profile = Profile.of(manifest.config, options)
        self.max_rows = self.profile.rows
        self.folder = cache_folder() / key(manifest, self.gpu, usable_version(ort.__version__), self.profile)
        note = read_note(self.folder)
        if note.get("state") == "refused":
            raise BackendError(f"the TensorRT engine in {self.folder} must not be used: {note.get('reason')}")
        built = note.get("state") == "built"
        if not built and not may_build:
            raise BackendError(
                f"no TensorRT engine is built for {artifact.stem} on {self.gpu.name}; build one with "
                "Predictor(..., backend='tensorrt') or albert-export --tensorrt"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        if not built:
            _log.warning(
                "building a TensorRT engine for %s on %s: some minutes", artifact.stem, self.gpu.name
            )
        self.open_on_gpu(ort, artifact, options, [(PROVIDER, self.settings(manifest)), CUDA])
        if not built:
            self.check(artifact, options)
            seconds = time.perf_counter() - began
            write_note(self.folder, {"state": "built", "seconds": round(seconds, 1), **self.info()})
            _log.warning("built in %.0f s, checked: %s", seconds, self.folder)

    def settings(self, manifest: Manifest) -> dict[str, str]:
        """The provider's options."""
        folder = str(self.folder)
        return {
            **CUDA[1],
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": folder,
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": folder,
            # fp16 for what int8 leaves; an fp32 artifact is not narrowed behind its owner's back.
            "trt_fp16_enable": str(manifest.precision in ("fp16", "int8")),
            "trt_bf16_enable": str(manifest.precision == "bf16"),
            "trt_int8_enable": str(manifest.precision == "int8"),
            **self.profile.settings(),
        }

    def padded_width(self, width: int) -> int:
        """See PaddedBackend.padded_width; BackendError for rows longer than the engine takes."""
        if width > self.profile.columns:
            raise BackendError(
                f"a row has {width} tokens, this TensorRT engine takes {self.profile.columns}; "
                f"build one with max_length={width} or more"
            )
        return self.profile.width(width)

    def check(self, artifact: Artifact, options: Options) -> None:
        """Compare with the CPU engine on several rows; if that fails the engine is refused from then on."""
        from .native import NativeBackend  # noqa: PLC0415  (the extension is not needed by a built engine)

        assert artifact.manifest is not None
        reference = NativeBackend(artifact, replace(options, precision=artifact.manifest.precision))
        batch = check_batch(artifact.manifest.config, self.profile)
        reason = difference(
            reference.run(batch, self.outputs),
            self.run(batch, self.outputs),
            _LEAST_COSINE[artifact.manifest.precision],
        )
        if reason is not None:
            write_note(self.folder, {"state": "refused", "reason": reason, **self.info()})
            _log.error("the TensorRT engine of %s is refused: %s", artifact.stem, reason)
            raise BackendError(f"the TensorRT engine of {artifact.stem} gives wrong answers: {reason}")

    def info(self) -> dict[str, object]:
        """See Backend.info."""
        return {**super().info(), "profile": asdict(self.profile), "engine_folder": str(self.folder)}


def cache_folder() -> Path:
    """Where engines are kept: $XDG_CACHE_HOME, or ~/.cache, /albert-runtime/tensorrt."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "albert-runtime" / "tensorrt"


def key(manifest: Manifest, gpu: Gpu, runtime: str, profile: Profile) -> str:
    """The folder's name: all that an engine depends on, hashed behind the model's name."""
    parts = {
        "onnx": manifest.files["onnx"].sha256,
        "weights": manifest.files["weights"].sha256,
        "gpu": asdict(gpu),
        "onnxruntime": runtime,
        "tensorrt": _tensorrt_version(),
        "profile": asdict(profile),
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return f"{manifest.name}-{digest[:16]}"


def _tensorrt_version() -> str:
    for name in ("tensorrt", "tensorrt-cu12", "tensorrt-cu13"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"


def read_note(folder: Path) -> dict[str, Any]:
    """What was written of the engine in a folder; empty if nothing or nothing readable was."""
    try:
        note = json.loads((folder / NOTE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def write_note(folder: Path, note: dict[str, Any]) -> None:
    """Replace the note at once, so that another process sees the old or the new one."""
    new = folder / f"{NOTE}.{os.getpid()}.{threading.get_ident()}"
    new.write_text(json.dumps(note, indent=1), "utf-8")
    new.replace(folder / NOTE)


def check_batch(config: AlbertConfig, profile: Profile) -> PackedBatch:
    """Rows of random ids whose lengths differ, as many as the profile takes up to five."""
    generator = np.random.default_rng(0)
    longest = min(profile.columns, 64)
    lengths = np.linspace(1, longest, min(_CHECKED_ROWS, profile.rows)).astype(int)[::-1]
    rows = [generator.integers(1, config.vocab_size, int(length)).tolist() for length in lengths]
    return pack(rows, Limits.of(config))


def difference(
    expected: dict[str, NDArray[np.float32]], found: dict[str, NDArray[np.float32]], least: float
) -> str | None:
    """What is wrong with an answer, in words; None if every vector points where it should."""
    for name, values in expected.items():
        answer = found[name]
        if answer.shape != values.shape:
            return f"{name} has shape {answer.shape}, not {values.shape}"
        for row, (want, have) in enumerate(zip(values, answer, strict=True)):
            if not np.isfinite(have).all():
                return f"{name} is not finite in row {row}"
            a, b = want.reshape(-1).astype(np.float64), have.reshape(-1).astype(np.float64)
            norm = float(np.linalg.norm(a) * np.linalg.norm(b))
            cosine = float(a @ b) / norm if norm > 0 else 1.0
            if cosine < least:
                return f"{name} is off in row {row}: cosine {cosine:.4f}, at least {least} is asked"
    return None
