"""Predictor: from an exported model to numpy arrays."""

import logging
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .artifact import Artifact
from .backends import available_cpus, choose
from .batch import Limits
from .errors import BackendError, InputError
from .manifest import SUFFIX, Manifest
from .packing import pack
from .tokenizer import TextEncoder

_log = logging.getLogger("albert_runtime")
_MAX_THREADS = 1024


class Predictor:
    """An exported ALBERT ready to answer. Any number of threads may call ``run`` on one Predictor.

    ``path`` is STEM.pdmodel, STEM.json, STEM.onnx, STEM.manifest.json, the stem or the folder. ``backend`` is
    auto (the first of native, onnxruntime, paddle that works here; ``info`` says why others were skipped) or
    one of these names, which forbids falling back. ``precision`` is auto (the artifact's) or fp32.
    ``num_threads`` None means the CPUs this process may really use. ``verify`` compares every file's sha256
    with the manifest first; without it sizes are checked, the sha256 of a program or graph when a backend
    loads it, and that of the weights when the engine first packs them.

    Raises ArtifactError (a file is missing, damaged or not understood) or BackendError (an option is unknown,
    or what a backend needs is missing).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        backend: str = "auto",
        precision: str = "auto",
        num_threads: int | None = None,
        verify: bool = False,
    ) -> None:
        threads = _threads(num_threads)
        self._artifact = Artifact.open(path)
        manifest = self._artifact.manifest
        known = "fp32" if manifest is None else manifest.precision
        if precision not in ("auto", known):
            raise BackendError(
                f"precision {precision!r} is not available; {self._artifact.stem} offers auto, {known}"
            )
        if verify:
            self._artifact.verify()
        self._backend, self._skipped = choose(backend, self._artifact, threads)
        if manifest is None:
            _log.warning("%s", self._without_manifest())
        self._precision = known
        self._limits = Limits() if manifest is None else Limits.of(manifest.config)
        tokenizer = self._artifact.files.get("tokenizer")
        longest = self._limits.max_position_embeddings
        self._encoder = None if tokenizer is None else TextEncoder(tokenizer, longest)

    def run(
        self, batch: object, outputs: Iterable[str] | None = None, *, truncate: bool = False
    ) -> dict[str, NDArray[np.float32]]:
        """Answer a batch: a dict from output name to a new float32 array.

        ``batch`` is one of

        * a mapping of padded integer arrays or nested lists [B, T]: input_ids, and optionally attention_mask
          (0 and 1, holes and left padding too) and token_type_ids; a missing mask is derived from the pad id;
        * a list of token-id lists of any lengths, in which every id counts;
        * a list of strings or (str, str) pairs, or one string, if the artifact has a tokenizer.

        ``outputs`` asks for some of the model's outputs, in that order; None = all in the program's order.
        Asking for less computes less. Per-token outputs are [B, T, ...] with 0 at masked positions, T the
        padded width or the longest row; per-row outputs are [B, ...]. Sequences longer than the model's
        positions are an error unless ``truncate`` cuts them: padded columns and token-id lists at their end,
        texts before their last [SEP].

        Raises InputError naming the row, the value and the limit that the batch breaks.
        """
        names = self._names(outputs)
        packed = pack(batch, self._limits, encoder=self._encoder, truncate=truncate)
        return self._backend.run(packed, names)

    @property
    def backend(self) -> str:
        """The backend in use: native, onnxruntime or paddle."""
        return self._backend.name

    @property
    def manifest(self) -> Manifest | None:
        """What the artifact's manifest says; None if the program has none."""
        return self._artifact.manifest

    def info(self) -> dict[str, Any]:
        """How this Predictor answers, ready for JSON: backend, why others were skipped, files, config."""
        manifest, artifact = self.manifest, self._artifact
        return {
            "name": artifact.stem if manifest is None else manifest.name,
            "backend": self._backend.name,
            "skipped": dict(self._skipped),
            "precision": self._precision,
            "outputs": list(self._backend.outputs),
            "files": {role: str(path) for role, path in artifact.files.items()},
            "tokenizer": "tokenizer" in artifact.files,
            "task": None if manifest is None else manifest.task,
            "config": None if manifest is None else manifest.config.to_dict(),
            "weights_origin": None if manifest is None else dict(manifest.weights_origin),
            "notes": [self._without_manifest()] if manifest is None else [],
            **self._backend.info(),
        }

    def __repr__(self) -> str:
        return f"Predictor({str(self._artifact.folder / self._artifact.stem)!r}, backend={self.backend!r})"

    def _names(self, outputs: Iterable[str] | None) -> tuple[str, ...]:
        known = self._backend.outputs
        if outputs is None:
            return known
        if isinstance(outputs, str):
            raise InputError(f"outputs must be a list of names; write outputs=[{outputs!r}]")
        if not isinstance(outputs, Iterable):
            raise InputError(f"outputs must be a list of names, not {type(outputs).__name__}")
        names = tuple(outputs)
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            what = f"output {unknown[0]!r} is unknown" if unknown else "outputs is empty"
            raise InputError(f"{what}; this model has {', '.join(known)}")
        return tuple(dict.fromkeys(names))

    def _without_manifest(self) -> str:
        return (
            f"{self._artifact.stem} has no {self._artifact.stem}{SUFFIX}: running on {self._backend.name} "
            "without the C++ engine, limits on ids are unknown and the pad id is taken to be 0"
        )


def _threads(num_threads: object) -> int:
    if num_threads is None:
        return available_cpus()
    if (
        isinstance(num_threads, bool)
        or not isinstance(num_threads, int)
        or not 1 <= num_threads <= _MAX_THREADS
    ):
        raise BackendError(
            f"num_threads is {num_threads!r}; give a whole number from 1 to {_MAX_THREADS}, or None"
        )
    return num_threads
