"""TensorRT engines, whoever builds them: the shapes they take, the folder each is kept in, and their check.

Building takes minutes, so ``auto`` uses an engine that is there and builds none. Engines lie in a folder
keyed by what they depend on; a note beside them says that one is built and was checked, or why it must not be
used. The check is against the CPU engine: an ALBERT in TensorRT 8 gave NaN in every row but the first
(NVIDIA/TensorRT#1550).
"""

import hashlib
import json
import logging
import time
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact.artifact import Artifact
from ..artifact.manifest import Manifest
from ..artifact.tasks import MULTIPLE_CHOICE
from ..batch.pack import pack
from ..batch.packed import ModelLimits, PackedBatch
from ..errors import BackendError
from ..files import cache_folder, cache_name, write_atomically
from .base import Options
from .nvidia import Gpu
from .padded import PaddedBackend

_log = logging.getLogger("albert_runtime")

NOTE = "albert-runtime.json"
DEFAULT_BATCH = 32
# Widths are rounded up to powers of two from here on: TensorRT is faster with few shapes, and padding to the
# next costs less than half of a pass.
LEAST_WIDTH = 16
# Of a question: RACE and SWAG have 4 choices, CommonsenseQA 5.
MAX_CHOICES, USUAL_CHOICES = 8, 4
# cosine of every vector, against the CPU engine in the same precision; fp32 is TF32 on the GPU.
_LEAST_COSINE = {"fp32": 0.999, "fp16": 0.999, "bf16": 0.999, "int8": 0.98}
_CHECKED_ROWS = 5


@dataclass(frozen=True)
class Profile:
    """The shapes that an engine takes: 1 to ``rows`` rows of 1 to ``columns`` columns.

    For multiple choice a row is a question, of 1 to ``choices`` choices; None elsewhere.
    """

    rows: int
    columns: int
    choices: int | None = None

    @classmethod
    def of(cls, manifest: Manifest, options: Options) -> "Profile":
        """From the Predictor's arguments; BackendError names one that is out of range.

        ``max_batch`` counts sequences, so that for multiple choice it holds as many choices in all.
        """
        positions = manifest.config.max_position_embeddings
        rows = DEFAULT_BATCH if options.max_batch is None else options.max_batch
        columns = positions if options.max_length is None else options.max_length
        for name, value, most in (("max_batch", rows, 4096), ("max_length", columns, positions)):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise BackendError(f"{name} is {value!r}; give a whole number from 1 to {most}")
        if manifest.task == MULTIPLE_CHOICE:
            return cls(max(1, rows // MAX_CHOICES), columns, MAX_CHOICES)
        return cls(rows, columns)

    def width(self, columns: int) -> int:
        """The width that a pass of so many columns is rounded up to."""
        return min(max(LEAST_WIDTH, 1 << (columns - 1).bit_length()), self.columns)

    def fit(self, columns: int, choices: int | None) -> None:
        """BackendError for a pass that the engine does not take."""
        if columns > self.columns:
            raise BackendError(
                f"a row has {columns} tokens, this TensorRT engine takes {self.columns}; "
                f"build one with max_length={columns} or more"
            )
        if (choices or 0) > (self.choices or 0):
            raise BackendError(
                f"a question has {choices} choices, a TensorRT engine takes {self.choices}; "
                "use backend='cuda'"
            )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The least, the greatest and the usual shape of every input: full batches of half the columns."""
        usual = self.width(max(1, self.columns // 2))
        if self.choices is None:
            return {"min": (1, 1), "opt": (self.rows, usual), "max": (self.rows, self.columns)}
        return {
            "min": (1, 1, 1),
            "opt": (self.rows, USUAL_CHOICES, usual),
            "max": (self.rows, self.choices, self.columns),
        }


class EngineFolder:
    """Where one engine is kept, and what is noted of it."""

    def __init__(
        self, manifest: Manifest, role: str, gpu: Gpu, versions: dict[str, str], profile: Profile
    ) -> None:
        """The folder named by the model and by the hash of all that an engine depends on.

        ``role`` is the file, onnx or program, that the engine is built from; ``versions`` those of the
        software that builds it.
        """
        parts = {
            role: manifest.files[role].sha256,
            "weights": manifest.files["weights"].sha256,
            "gpu": asdict(gpu),
            "versions": versions,
            "profile": asdict(profile),
        }
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        base = cache_folder("tensorrt")
        if base is None:
            raise BackendError("there is no home to keep a TensorRT engine in; set XDG_CACHE_HOME")
        self.path = base / cache_name(manifest.name, digest)
        self._name, self._gpu, self._precision = manifest.name, gpu, manifest.precision
        self._profile = profile
        self._built, self._began = False, 0.0

    def prepare(self, *, may_build: bool) -> None:
        """Call before the engine is loaded, or built if it is not there and ``may_build``.

        BackendError if it must not be used, or is not built and may not be.
        """
        if self.state == "refused":
            reason = self._note().get("reason")
            raise BackendError(f"the TensorRT engine in {self.path} must not be used: {reason}")
        self._built = self.state == "built"
        if not self._built and not may_build:
            raise BackendError(
                f"no TensorRT engine is built for {self._name} on {self._gpu.name}; build one with "
                "Predictor(..., backend='tensorrt') or albert-export --tensorrt"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        self._began = time.perf_counter()
        if not self._built:
            _log.warning("building a TensorRT engine for %s on %s: some minutes", self._name, self._gpu.name)

    def admit(self, backend: PaddedBackend, artifact: Artifact, options: Options) -> None:
        """Call with the backend that holds the engine: a new one is compared with the CPU engine.

        BackendError if it gives wrong answers; it is then refused from then on.
        """
        if self._built:
            return
        reason = self._wrong(backend, artifact, options)
        if reason is not None:
            self._write_note({"state": "refused", "reason": reason, **backend.info()})
            _log.error("the TensorRT engine of %s is refused: %s", self._name, reason)
            raise BackendError(f"the TensorRT engine of {self._name} gives wrong answers: {reason}")
        seconds = time.perf_counter() - self._began
        self._write_note({"state": "built", "seconds": round(seconds, 1), **backend.info()})
        _log.warning("built in %.0f s, checked: %s", seconds, self.path)

    def _wrong(self, backend: PaddedBackend, artifact: Artifact, options: Options) -> str | None:
        from .native import NativeBackend  # noqa: PLC0415  (the extension is not needed by a built engine)

        assert artifact.manifest is not None
        reference = NativeBackend(artifact, replace(options, precision=self._precision))
        batch = check_batch(ModelLimits.of(artifact.manifest.config), self._profile)
        return difference(
            reference.run(batch, backend.outputs),
            backend.run(batch, backend.outputs),
            _LEAST_COSINE[self._precision],
        )

    @property
    def state(self) -> str | None:
        """Built (and checked), refused (it gave wrong answers), or None: not there."""
        state = self._note().get("state")
        return state if state in ("built", "refused") else None

    def _note(self) -> dict[str, Any]:
        try:
            note = json.loads((self.path / NOTE).read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}

    def _write_note(self, note: dict[str, Any]) -> None:
        write_atomically(self.path / NOTE, json.dumps(note, indent=1).encode())


def tensorrt_version() -> str:
    """The version of the installed package."""
    for name in ("tensorrt", "tensorrt-cu12", "tensorrt-cu13"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"


def check_batch(limits: ModelLimits, profile: Profile) -> PackedBatch:
    """Rows of random ids whose lengths differ, as many as the profile takes up to five."""
    generator = np.random.default_rng(0)
    choices = None if profile.choices is None else min(USUAL_CHOICES, profile.choices)
    rows = min(_CHECKED_ROWS, profile.rows)
    lengths = np.linspace(1, min(profile.columns, 64), rows * (choices or 1)).astype(int)[::-1]
    ids = [generator.integers(1, limits.vocab_size, int(length)).tolist() for length in lengths]
    if choices is None:
        return pack(ids, limits)
    return pack([ids[start : start + choices] for start in range(0, len(ids), choices)], limits, choices=True)


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
