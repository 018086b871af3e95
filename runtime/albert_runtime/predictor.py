"""Predictor: from an exported model to numpy arrays."""

import asyncio
import logging
import os
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .artifact.artifact import Artifact
from .artifact.manifest import SUFFIX, Manifest
from .artifact.tasks import MULTIPLE_CHOICE, PREDICTION_SCORES, QUESTION_ANSWERING
from .backends.base import Options, Outputs
from .backends.padded import PaddedBackend
from .backends.registry import choose
from .backends.sentence_pooling import SentencePooler
from .batch.checks import validate_packed
from .batch.on_gpu import is_on_gpu
from .batch.pack import pack
from .batch.packed import Int32, ModelLimits, PackedBatch
from .batch.score_positions import tokens_at
from .errors import ArtifactError, BackendError, DeadlineExceeded, InputError
from .proof import Proved, check_provable
from .proof import prove as prove_answers
from .scheduler.requests import Request
from .scheduler.scheduler import DEFAULT_TOKENS, Scheduler
from .text.long_texts import LONG_TEXTS, count_characters
from .text.methods import TextAnswers
from .text.stream import ModelCall
from .text.task_method import TextModel
from .text.tokenizer import TextEncoder
from .threads import MAX_THREADS, choose_threads

_log = logging.getLogger("albert_runtime")
_MAX_PACKED_AT_ONCE = 4096  # tokens, in an array: 0.1 ms
_MAX_QUEUED = 2**31 - 1
_MAX_DELAY = 60.0


class Predictor(TextAnswers):
    """An exported ALBERT model, loaded and ready to run. All methods but ``build`` are thread-safe.

    All that it needs is read while it loads: files may then be replaced, by renaming, or removed. A pickle
    holds the absolute path and the options, and loads the model again where it is read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        backend: str = "auto",
        precision: str = "auto",
        device: str = "auto",
        num_threads: int | None = None,
        max_batch: int | None = None,
        max_length: int | None = None,
        max_batch_tokens: int | None = None,
        max_queue: int = 1024,
        max_queue_delay: float = 0.0,
        verify: bool = False,
        prove: bool = False,
        scheduler: Callable[..., Scheduler] = Scheduler,
    ) -> None:
        """Load a model.

        Args:
            path: STEM.pdmodel, STEM.json, STEM.onnx, STEM.manifest.json, the stem, or the artifact's folder.
            backend: ``auto`` takes the first of tensorrt, gpu, cuda, native, onnxruntime and paddle that
                works on this machine; the log and ``info`` say why others were skipped. A name allows no
                other.
            precision: What the layers' matrices are multiplied in: ``auto`` (what the artifact was exported
                in); fp32, bf16 or int8 on native (the C++ engine) and gpu; on gpu also fp16, and tf32, which
                is float32 with products rounded to 10 bits. Weights are converted when they are loaded,
                activations as they are computed (int8: one scale per token, no calibration). Sums,
                LayerNorm, softmax and all inputs and outputs stay float32; between its kernels, gpu keeps
                activations in 16 bits unless the precision is fp32 or tf32. native widens fp16 to fp32.
            device: ``auto``, ``cpu`` or ``gpu``: restricts ``auto`` to backends of that device, and lets
                paddle run on a GPU.
            num_threads: Threads of one run; None = what OMP_NUM_THREADS says, but no more than the CPUs
                available to this process, which are also taken where it is not set.
            max_batch: Rows in a pass of a TensorRT engine; None = 32.
            max_length: Tokens in a row of a TensorRT engine; None = the model's positions.
            max_batch_tokens: For ``submit``, tokens in a batch. None = 128 on native, 16384 on a GPU, else
                4096. Padding counts, except on native and gpu, which compute none.
            max_queue: For ``submit``, how many requests may be unanswered.
            max_queue_delay: For ``submit``, seconds that a batch which is not full waits for more requests.
            verify: Compare the sha256 of every file with the manifest first. Without it, sizes are checked,
                the sha256 of the tokenizer, of all that another backend than native loads, and that of the
                weights when native first packs them.
            prove: Answer the rows in the manifest's ``proof`` first, and compare the bits with those that
                native gave at the export, wherever that was: a second or two. Only native can be proved.
            scheduler: Creates what ``submit`` queues with: the class, for example
                ``functools.partial(Scheduler, patience=0)``, or a callable with the same arguments.

        Raises:
            ArtifactError: A file is missing, damaged or not understood, or was replaced during the load; or
                it has nothing to ``prove`` with.
            BackendError: An option is unknown, or something that a backend needs is missing; or an answer
                has other bits than at the export.
        """
        _check_whole("num_threads", 1 if num_threads is None else num_threads, MAX_THREADS)
        self._given: dict[str, Any] = {
            "backend": backend,
            "precision": precision,
            "device": device,
            "num_threads": num_threads,
            "max_batch": max_batch,
            "max_length": max_length,
            "max_batch_tokens": max_batch_tokens,
            "max_queue": max_queue,
            "max_queue_delay": max_queue_delay,
            "verify": verify,
            "prove": prove,
            "scheduler": scheduler,
        }
        _check_whole("max_batch_tokens", 1 if max_batch_tokens is None else max_batch_tokens, _MAX_QUEUED)
        _check_whole("max_queue", max_queue, _MAX_QUEUED)
        if not 0 <= max_queue_delay <= _MAX_DELAY:
            raise BackendError(f"max_queue_delay is {max_queue_delay!r}; give seconds from 0 to {_MAX_DELAY}")
        threads, self._threads_chosen_by = choose_threads(num_threads)
        self._artifact = Artifact.open(path)
        manifest = self._artifact.manifest
        stored = "fp32" if manifest is None else manifest.precision
        self._precision = stored if precision == "auto" else precision
        if verify:
            self._artifact.verify()
        if prove:
            check_provable(self._artifact, backend)
        self._options = Options(threads, self._precision, device, max_batch, max_length)
        self._backend, self._skipped = choose(backend, self._artifact, self._options)
        if manifest is None:
            _log.warning("%s", self._without_manifest())
        self._limits = ModelLimits() if manifest is None else ModelLimits.of(manifest.config)
        self._max_batch_tokens = max_batch_tokens
        self._make_scheduler = partial(scheduler, max_queue=max_queue, max_queue_delay=max_queue_delay)
        self._scheduler = self._new_scheduler()
        self._task = None if manifest is None else manifest.task
        self._choices = None if manifest is None else manifest.task == MULTIPLE_CHOICE
        # An engine has one; for others it pools where the program cannot: without the tokens of a prompt.
        self._pooler: SentencePooler | None = getattr(self._backend, "pooler", None)
        if self._pooler is None:
            self._pooler = SentencePooler.of(self._artifact)
        self._encoder = self._read_tokenizer()
        self._proved = prove_answers(self._artifact, self._backend, self.run) if prove else None
        self._artifact.check_unchanged()

    def _read_tokenizer(self) -> TextEncoder | None:
        manifest = self.manifest
        if "tokenizer" not in self._artifact.files:
            return None
        longest = self._limits.max_position_embeddings
        if manifest is not None and manifest.max_length is not None:
            longest = manifest.max_length
        # A question must stay whole; of other pairs the longer text is cut.
        keep_first = self._task == QUESTION_ANSWERING
        content, file = self._artifact.read("tokenizer"), str(self._artifact.files["tokenizer"])
        positions = self._limits.max_position_embeddings
        return TextEncoder(content, longest, positions=positions, keep_first=keep_first, file=file)

    def run(
        self,
        batch: object,
        outputs: Iterable[str] | None = None,
        *,
        truncate: bool = False,
        positions: object = None,
    ) -> dict[str, NDArray[np.float32]]:
        """Run the model on a batch.

        Args:
            batch: One of

                * a mapping of padded integer arrays or nested lists [B, T]: input_ids, and optionally
                  attention_mask (0 and 1; holes and left padding are allowed) and token_type_ids. Without a
                  mask, pad ids that stand together at one end of a row, and nowhere else in it, are masked;
                  a row that holds the pad id elsewhere counts as a whole, with a warning. On gpu, cuda and
                  tensorrt the arrays may be int64 arrays on the GPU (DLPack: torch, cupy, paddle...), mask
                  included. These are read in place. gpu checks the ids there; on the others, ids out of range
                  give meaningless results.
                * a list of token-id lists of any lengths; none of their ids is treated as padding.
                * a list of strings or (str, str) pairs, or one string, if the artifact has a tokenizer.
                * the result of ``pack``; it is not truncated again.

                For multiple choice every form is one level deeper, [B, C, T]: a list holds, for each
                question, the list of its choices as token-id lists or (prompt, choice) pairs.
            outputs: Names of the outputs wanted, in this order; None = all. Fewer outputs cost less.
            truncate: Cut rows longer than the model's positions instead of refusing them: padded columns and
                token-id lists at their end, texts before their last [SEP]. Texts are cut to the length that
                the model's tokenizer states, if that is smaller.
            positions: For models that score the vocabulary, a list of columns for each row, such as
                ``[[3], [1, 4]]``; prediction_scores is then [P, V], row after row in this order. The C++
                engine computes only these P.

        Returns:
            New float32 arrays by output name. Outputs per token are [B, T, ...], T the padded width or the
            longest row, and 0 at masked positions (start_logits and end_logits: -10000). Outputs per row are
            [B, ...]; the logits of multiple choice are [B, C].

        Raises:
            InputError: The batch breaks a rule; the message names the row, the value and the limit.
        """
        if is_on_gpu(batch):
            return self._run_on_gpu(batch, outputs, truncate=truncate, positions=positions)
        return self._backend.run(*self._packed(batch, outputs, truncate, positions))

    def pack(self, batch: object, *, truncate: bool = False) -> PackedBatch:
        """Check a batch and pack its tokens one after another, without padding.

        ``run``, ``submit`` and ``arun`` take the result in place of the batch, any number of times.

        Args:
            batch: A batch in any form that ``run`` takes, except arrays on a GPU.
            truncate: Cut rows longer than the model's positions instead of refusing them.

        Raises:
            InputError: The batch breaks a rule; the message names the row, the value and the limit.
        """
        return pack(batch, self._limits, encoder=self._encoder, truncate=truncate, choices=self._choices)

    def submit(
        self,
        batch: object,
        outputs: Iterable[str] | None = None,
        *,
        truncate: bool = False,
        positions: object = None,
        timeout: float | None = None,
    ) -> "Future[Outputs]":
        """Queue a batch to run together with those of other callers.

        Requests of all threads wait in one queue and run in batches of up to ``max_batch_tokens`` tokens. An
        idle engine starts at once.

        Args:
            batch: See ``run``.
            outputs: See ``run``.
            truncate: See ``run``.
            positions: See ``run``.
            timeout: Seconds until the request fails with DeadlineExceeded, if it is still in the queue.

        Returns:
            A future of what ``run`` returns: on the C++ engine with the same bits. Once it is cancelled or
            expired, parts of the request that have not started cost nothing.

        Raises:
            InputError: See ``run``; other requests are not affected.
            Overloaded: ``max_queue`` requests are unanswered.
            Closed: The Predictor was closed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        packed, names, tokens = self._packed(batch, outputs, truncate, positions)
        return self._scheduler.submit(Request(packed, names, tokens, deadline))

    async def arun(
        self,
        batch: object,
        outputs: Iterable[str] | None = None,
        *,
        truncate: bool = False,
        positions: object = None,
        timeout: float | None = None,
    ) -> Outputs:
        """``submit`` for asyncio.

        DeadlineExceeded is raised after ``timeout`` seconds even if the request is already running. Texts and
        large batches are packed on another thread, so that they do not block the event loop.
        """
        options: dict[str, Any] = {"truncate": truncate, "positions": positions, "timeout": timeout}
        try:
            return await asyncio.wait_for(self._submitted(batch, outputs, options), timeout)
        except asyncio.TimeoutError:
            raise DeadlineExceeded(f"not answered within {timeout:g} s") from None

    async def _submitted(self, batch: object, outputs: Iterable[str] | None, options: Any) -> Outputs:
        ids = batch.get("input_ids") if isinstance(batch, Mapping) else None
        quick = isinstance(ids, np.ndarray) and ids.size <= _MAX_PACKED_AT_ONCE
        if quick or isinstance(batch, PackedBatch):
            return await asyncio.wrap_future(self.submit(batch, outputs, **options))
        submit = partial(self.submit, batch, outputs, **options)
        submitting = asyncio.ensure_future(LONG_TEXTS.run(count_characters(batch), submit))
        try:
            future = await asyncio.shield(submitting)
        except asyncio.CancelledError:
            submitting.add_done_callback(_cancel_submitted)
            raise
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Finish the submitted requests and refuse new ones; ``run`` still works."""
        self._scheduler.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), **self._given), (self._artifact.path,)

    def __enter__(self) -> "Predictor":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def backend(self) -> str:
        """The name of the backend in use."""
        return self._backend.name

    @property
    def scheduler(self) -> Scheduler:
        """What ``submit`` queues with; it calls its ``observers`` with the BatchStats of every batch."""
        return self._scheduler

    @property
    def task(self) -> str | None:
        """The model's task; None for a program without a manifest."""
        return self._task

    @property
    def manifest(self) -> Manifest | None:
        """The artifact's manifest; None for a program without one."""
        return self._artifact.manifest

    @property
    def proved(self) -> Proved | None:
        """What was proved while this Predictor loaded; None without ``prove``."""
        return self._proved

    @property
    def reads_texts(self) -> bool:
        """Whether the artifact has a tokenizer, so that batches may be texts."""
        return self._encoder is not None

    def build(self) -> None:
        """Build and check this model's TensorRT engine, unless that was done before, and use it from now on.

        This takes minutes. Do not call it while other threads use this Predictor.

        Raises:
            ArtifactError: The files are no longer those that this Predictor loaded.
            BackendError: Something is missing, or the engine gives wrong results, or this Predictor was
                loaded with ``prove``; nothing has changed then.
        """
        if self._proved is not None:
            check_provable(self._artifact, "tensorrt")
        artifact = Artifact.open(self._artifact.path)
        if artifact.manifest != self.manifest:
            raise ArtifactError(f"{artifact.path} was replaced since it was loaded; make another Predictor")
        self._backend, self._skipped = choose("tensorrt", artifact, self._options)
        self._scheduler.close()
        self._scheduler = self._new_scheduler()

    def info(self) -> dict[str, Any]:
        """Describe this Predictor, ready for JSON: backend, why others were skipped, files, config.

        ``left_out`` holds the backends that the artifact was not verified on, and why not; ``proved`` what
        was compared with the export bit by bit, or None.
        """
        manifest, artifact = self.manifest, self._artifact
        return {
            "name": artifact.stem if manifest is None else manifest.name,
            "backend": self._backend.name,
            "skipped": dict(self._skipped),
            "precision": self._precision,
            "outputs": list(self._backend.outputs),
            "files": {role: str(path) for role, path in artifact.files.items()},
            "tokenizer": self.reads_texts,
            "task": None if manifest is None else manifest.task,
            "config": None if manifest is None else manifest.config.to_dict(),
            "left_out": {} if manifest is None else dict(manifest.left_out),
            "weights_origin": None if manifest is None else dict(manifest.weights_origin),
            "proved": None if self._proved is None else asdict(self._proved),
            "notes": [self._without_manifest()] if manifest is None else [],
            **self._backend.info(),
            "num_threads_from": self._threads_chosen_by,
        }

    def __repr__(self) -> str:
        return f"Predictor({str(self._artifact.folder / self._artifact.stem)!r}, backend={self.backend!r})"

    def _run_on_gpu(
        self, batch: object, outputs: Iterable[str] | None, *, truncate: bool, positions: object
    ) -> dict[str, NDArray[np.float32]]:
        run = getattr(self._backend, "run_on_gpu", None)
        if run is None:
            raise InputError(
                f"the batch is on a GPU, which backend {self.backend!r} does not read; "
                "pass it from the CPU, or use backend='gpu'"
            )
        if truncate or positions is not None:
            raise InputError("truncate and positions are for batches on the CPU")
        return run(batch, self._limits, self._names(outputs))  # type: ignore[no-any-return]

    def _new_scheduler(self) -> Scheduler:
        backend, manifest = self._backend, self.manifest
        usual = getattr(backend, "tokens_per_pass", DEFAULT_TOKENS)
        scheduler = self._make_scheduler(
            backend.run,
            max_batch_tokens=usual if self._max_batch_tokens is None else self._max_batch_tokens,
            padded=isinstance(backend, PaddedBackend),
            is_per_token=None if manifest is None else manifest.head.is_per_token,
        )
        # Without this its thread would outlive the Predictor: as it is, only until all requests are answered.
        weakref.finalize(self, scheduler.close, wait=False).atexit = False
        return scheduler

    def _packed(
        self, batch: object, outputs: Iterable[str] | None, truncate: bool, positions: object
    ) -> tuple[PackedBatch, tuple[str, ...], Int32 | None]:
        """The arguments of Backend.run."""
        names = self._names(outputs)
        if positions is not None and PREDICTION_SCORES not in names:
            raise InputError(f"positions is for {PREDICTION_SCORES}, which is not among {', '.join(names)}")
        if isinstance(batch, PackedBatch):
            packed = validate_packed(batch, self._limits)
        else:
            packed = self.pack(batch, truncate=truncate)
        return packed, names, None if positions is None else tokens_at(packed, positions)

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

    def _submit_call(self, call: ModelCall) -> "Future[Outputs]":
        return self._scheduler.submit(Request(call.batch, call.outputs, call.score_tokens))

    def _text_model(self, method: str) -> TextModel:
        manifest = self.manifest
        if manifest is None:
            raise InputError(
                f"{method} needs to know the model's task, and {self._artifact.stem} has no "
                f"{self._artifact.stem}{SUFFIX}; export the model again, or use run"
            )
        if self._encoder is None:
            raise InputError(
                f"{method} needs a tokenizer and {self._artifact.stem} has none; "
                "export again from a model that brings its tokenizer"
            )
        labels = manifest.labels or ()
        return TextModel(
            manifest.name,
            manifest.task,
            labels,
            self._backend.outputs,
            manifest.config.hidden_size,
            self._limits,
            self._encoder,
            self._backend.run,
            manifest.head.score_activation,
            manifest.embedding_size,
            manifest.sentence_texts,
            self._pooler,
        )

    def _without_manifest(self) -> str:
        return (
            f"{self._artifact.stem} has no {self._artifact.stem}{SUFFIX}: running on {self._backend.name} "
            "without the C++ engine, limits on ids are unknown and the pad id is taken to be 0"
        )


def _cancel_submitted(submitting: "asyncio.Future[Future[Outputs]]") -> None:
    if not submitting.cancelled() and submitting.exception() is None:
        submitting.result().cancel()


def _check_whole(name: str, value: object, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise BackendError(f"{name} is {value!r}; give a whole number from 1 to {most}, or None")
