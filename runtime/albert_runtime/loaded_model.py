"""A model as it was loaded: its artifact, what runs it, and what makes batches for it."""

import logging
import os
from collections.abc import Iterable
from typing import Any

from .artifact.artifact import Artifact
from .artifact.manifest import SUFFIX, Manifest
from .artifact.tasks import MULTIPLE_CHOICE, PREDICTION_SCORES, QUESTION_ANSWERING
from .backends.base import Backend, Options
from .backends.registry import choose
from .backends.sentence_pooling import SentencePooler
from .batch.checks import validate_packed
from .batch.pack import pack
from .batch.packed import Int32, ModelLimits, PackedBatch
from .batch.score_positions import tokens_at
from .errors import ArtifactError, InputError
from .proof import check_provable
from .text.task_method import TextModel
from .text.tokenizer import TextEncoder
from .threads import choose_threads

_log = logging.getLogger("albert_runtime")


class LoadedModel:
    """An artifact's files, read and checked, and the backend that runs them.

    Attributes:
        artifact: The files; call its ``check_unchanged`` when all else has been read, too.
        backend: What runs the model; ``build_tensorrt`` replaces it.
        limits: What batches must keep.
        encoder: The tokenizer; None if there is none.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        backend: str,
        *,
        precision: str,
        device: str,
        num_threads: int | None,
        max_batch: int | None,
        max_length: int | None,
        verify: bool,
        prove: bool,
    ) -> None:
        """Load a model; arguments and errors are those of Predictor.

        ``prove`` only checks that the artifact and the backend can be proved.
        """
        threads, self._threads_chosen_by = choose_threads(num_threads)
        self.artifact = Artifact.open(path)
        manifest = self.artifact.manifest
        stored = "fp32" if manifest is None else manifest.precision
        self._precision = stored if precision == "auto" else precision
        if verify:
            self.artifact.verify()
        if prove:
            check_provable(self.artifact, backend)
        self._options = Options(threads, self._precision, device, max_batch, max_length)
        self.backend: Backend
        self.backend, self._skipped = choose(backend, self.artifact, self._options)
        if manifest is None:
            _log.warning("%s", self._without_manifest())
        self.limits = ModelLimits() if manifest is None else ModelLimits.of(manifest.config)
        self._choices = None if manifest is None else manifest.task == MULTIPLE_CHOICE
        # An engine has one; for others it pools where the program cannot: without the tokens of a prompt.
        self._pooler: SentencePooler | None = getattr(self.backend, "pooler", None)
        if self._pooler is None:
            self._pooler = SentencePooler.of(self.artifact)
        self.encoder = self._read_tokenizer()

    @property
    def manifest(self) -> Manifest | None:
        """The artifact's manifest; None for a program without one."""
        return self.artifact.manifest

    def pack(self, batch: object, *, truncate: bool) -> PackedBatch:
        """See Predictor.pack."""
        return pack(batch, self.limits, encoder=self.encoder, truncate=truncate, choices=self._choices)

    def prepare(
        self, batch: object, outputs: Iterable[str] | None, truncate: bool, positions: object
    ) -> tuple[PackedBatch, tuple[str, ...], Int32 | None]:
        """The arguments of Backend.run, from those of Predictor.run; InputError names what is wrong."""
        names = self.output_names(outputs)
        if positions is not None and PREDICTION_SCORES not in names:
            raise InputError(f"positions is for {PREDICTION_SCORES}, which is not among {', '.join(names)}")
        if isinstance(batch, PackedBatch):
            packed = validate_packed(batch, self.limits)
        else:
            packed = self.pack(batch, truncate=truncate)
        return packed, names, None if positions is None else tokens_at(packed, positions)

    def output_names(self, outputs: Iterable[str] | None) -> tuple[str, ...]:
        """The outputs wanted, each once, all for None; InputError names an unknown one."""
        known = self.backend.outputs
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

    def text_model(self, method: str) -> TextModel:
        """What a method that answers texts works with; InputError if the artifact lacks what it needs."""
        manifest, stem = self.manifest, self.artifact.stem
        if manifest is None:
            raise InputError(
                f"{method} needs to know the model's task, and {stem} has no {stem}{SUFFIX}; "
                "export the model again, or use run"
            )
        if self.encoder is None:
            raise InputError(
                f"{method} needs a tokenizer and {stem} has none; "
                "export again from a model that brings its tokenizer"
            )
        labels = manifest.labels or ()
        return TextModel(
            manifest.name,
            manifest.task,
            labels,
            self.backend.outputs,
            manifest.config.hidden_size,
            self.limits,
            self.encoder,
            self.backend.run,
            manifest.head.score_activation,
            manifest.embedding_size,
            manifest.sentence_texts,
            self._pooler,
        )

    def build_tensorrt(self) -> None:
        """See Predictor.build."""
        artifact = Artifact.open(self.artifact.path)
        if artifact.manifest != self.manifest:
            raise ArtifactError(f"{artifact.path} was replaced since it was loaded; make another Predictor")
        self.backend, self._skipped = choose("tensorrt", artifact, self._options)

    def info(self) -> dict[str, Any]:
        """What Predictor.info says of artifact and backend."""
        manifest, artifact = self.manifest, self.artifact
        return {
            "name": artifact.stem if manifest is None else manifest.name,
            "backend": self.backend.name,
            "skipped": dict(self._skipped),
            "precision": self._precision,
            "outputs": list(self.backend.outputs),
            "files": {role: str(path) for role, path in artifact.files.items()},
            "tokenizer": self.encoder is not None,
            "task": None if manifest is None else manifest.task,
            "config": None if manifest is None else manifest.config.to_dict(),
            "left_out": {} if manifest is None else dict(manifest.left_out),
            "weights_origin": None if manifest is None else dict(manifest.weights_origin),
            "notes": [self._without_manifest()] if manifest is None else [],
            **self.backend.info(),
            "num_threads_from": self._threads_chosen_by,
        }

    def _read_tokenizer(self) -> TextEncoder | None:
        manifest, artifact = self.manifest, self.artifact
        if "tokenizer" not in artifact.files:
            return None
        positions = self.limits.max_position_embeddings
        longest = positions if manifest is None or manifest.max_length is None else manifest.max_length
        # A question must stay whole; of other pairs the longer text is cut.
        keep_first = manifest is not None and manifest.task == QUESTION_ANSWERING
        content, file = artifact.read("tokenizer"), str(artifact.files["tokenizer"])
        return TextEncoder(content, longest, positions=positions, keep_first=keep_first, file=file)

    def _without_manifest(self) -> str:
        stem = self.artifact.stem
        return (
            f"{stem} has no {stem}{SUFFIX}: running on {self.backend.name} without the C++ engine, limits on "
            "ids are unknown and the pad id is taken to be 0"
        )
