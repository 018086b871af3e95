"""Predictor: from an exported model to numpy arrays."""

import asyncio
import logging
import os
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .artifact.artifact import Artifact
from .artifact.manifest import SUFFIX, Manifest
from .artifact.tasks import MULTIPLE_CHOICE, PREDICTION_SCORES, QUESTION_ANSWERING
from .backends.base import Options, Outputs
from .backends.padded import PaddedBackend
from .backends.registry import available_cpus, choose
from .batch.on_gpu import is_on_gpu
from .batch.pack import NO_TOKENIZER, pack
from .batch.packed import Int32, ModelLimits, PackedBatch
from .batch.score_positions import tokens_at
from .errors import BackendError, DeadlineExceeded, InputError
from .scheduler.requests import Request
from .scheduler.scheduler import DEFAULT_TOKENS, Scheduler
from .text.methods import TextAnswers
from .text.stream import ModelCall
from .text.task_method import TextModel
from .text.tokenizer import TextEncoder

_log = logging.getLogger("albert_runtime")
_MAX_THREADS = 1024
_MAX_PACKED_AT_ONCE = 4096  # tokens, in an array: 0.1 ms
_MAX_QUEUED = 2**31 - 1
_MAX_DELAY = 60.0


class Predictor(TextAnswers):
    """An exported ALBERT ready to answer. Any number of threads may call ``run`` on one Predictor.

    ``path`` is STEM.pdmodel, STEM.json, STEM.onnx, STEM.manifest.json, the stem or the folder. ``backend`` is
    auto (the first of tensorrt, cuda, native, onnxruntime, paddle that works here; the log and ``info`` say
    why others were skipped) or one of these names, which forbids falling back. ``precision`` is auto (the
    artifact's) or, on the C++ engine, fp32, bf16 or int8: the type that the layers' matrices are multiplied
    in, their weights converted when they are packed, the activations as they come (int8: every token with a
    scale of its own, so that no calibration is needed); sums, LayerNorm and softmax stay float32, and so do
    the arrays in and out. The engine widens an artifact of fp16 to fp32.
    ``device`` cpu or gpu leaves auto the backends that run there, and lets paddle run on a GPU.
    ``num_threads`` None means the CPUs this process may really use. ``max_batch`` and ``max_length`` are the
    rows and tokens of a pass that a TensorRT engine is built for (32 and the model's positions); auto takes
    TensorRT only where such an engine is built already, by its name or by ``build``. ``verify`` compares
    every file's sha256 with the manifest first; without it sizes are checked, the sha256 of a program or
    graph when a backend loads it, and that of the weights when the engine first packs them.

    For ``submit``: ``max_batch_tokens`` is the most that a pass takes (None = 128; on ONNX Runtime and
    Paddle 4096, padding counted, on a GPU 16384), ``max_queue`` how many requests may be unanswered,
    ``max_queue_delay`` how many seconds a batch that is not full waits for more. ``scheduler`` makes the
    Scheduler: the class, or ``functools.partial(Scheduler, patience=0)``, or anything that is called and
    behaves like it.

    Raises ArtifactError (a file is missing, damaged or not understood) or BackendError (an option is unknown,
    or what a backend needs is missing).
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
        scheduler: Callable[..., Scheduler] = Scheduler,
    ) -> None:
        threads = available_cpus() if num_threads is None else num_threads
        _check_whole("num_threads", threads, _MAX_THREADS)
        _check_whole("max_batch_tokens", 1 if max_batch_tokens is None else max_batch_tokens, _MAX_QUEUED)
        _check_whole("max_queue", max_queue, _MAX_QUEUED)
        if not 0 <= max_queue_delay <= _MAX_DELAY:
            raise BackendError(f"max_queue_delay is {max_queue_delay!r}; give seconds from 0 to {_MAX_DELAY}")
        self._artifact = Artifact.open(path)
        manifest = self._artifact.manifest
        stored = "fp32" if manifest is None else manifest.precision
        self._precision = stored if precision == "auto" else precision
        if verify:
            self._artifact.verify()
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
        tokenizer = self._artifact.files.get("tokenizer")
        longest = self._limits.max_position_embeddings
        # A question must stay whole; of other pairs the longer text is cut.
        keep_first = self._task == QUESTION_ANSWERING
        self._encoder = None if tokenizer is None else TextEncoder(tokenizer, longest, keep_first=keep_first)

    def run(
        self,
        batch: object,
        outputs: Iterable[str] | None = None,
        *,
        truncate: bool = False,
        positions: object = None,
    ) -> dict[str, NDArray[np.float32]]:
        """Answer a batch: a dict from output name to a new float32 array.

        ``batch`` is one of

        * a mapping of padded integer arrays or nested lists [B, T]: input_ids, and optionally attention_mask
          (0 and 1, holes and left padding too) and token_type_ids; a missing mask is derived from the pad id;
          on cuda and tensorrt also int64 arrays that are on the GPU (DLPack: torch, cupy, paddle...), ids and
          mask, which are then read there; such ids are not checked, those out of range give no useful answer;
        * a list of token-id lists of any lengths, in which every id counts;
        * a list of strings or (str, str) pairs, or one string, if the artifact has a tokenizer;
        * what ``pack`` made of one of these; it is not checked or truncated again.

        ``outputs`` asks for some of the model's outputs, in that order; None = all in the program's order.
        Asking for less computes less. Per-token outputs are [B, T, ...] with 0 at masked positions, T the
        padded width or the longest row; per-row outputs are [B, ...]. Sequences longer than the model's
        positions are an error unless ``truncate`` cuts them: padded columns and token-id lists at their end,
        texts before their last [SEP].

        A multiple-choice model takes every form one level deeper, [B, C, T]: a list holds, for every
        question, the list of its choices as token-id lists or (prompt, choice) pairs; logits are [B, C].
        start_logits and end_logits are -10000 at masked positions. ``positions``, for models that score the
        vocabulary, lists for every row the columns wanted, as in ``[[3], [1, 4]]``: prediction_scores is then
        [P, V], row after row in the order listed, and only these P are computed by the C++ engine.

        Raises InputError naming the row, the value and the limit that the batch breaks.
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
        """``run`` for many callers: a future of its results, bit for bit those of ``run`` on the C++ engine.

        Requests of all threads wait in one queue and run joined, up to ``max_batch_tokens`` tokens a pass; an
        idle engine begins at once. Raises InputError for this batch alone, and Overloaded at once when
        ``max_queue`` requests are unanswered. What of a request has not begun when its future is cancelled,
        or after ``timeout`` seconds (DeadlineExceeded), costs nothing.
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
        """``submit`` for asyncio. DeadlineExceeded comes after ``timeout`` seconds, not when it would have
        been the request's turn. Texts and large batches are packed on another thread, so that the event loop
        goes on.
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
        submitting = asyncio.ensure_future(asyncio.to_thread(self.submit, batch, outputs, **options))
        try:
            future = await asyncio.shield(submitting)
        except asyncio.CancelledError:
            submitting.add_done_callback(_cancel_submitted)
            raise
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Answer all that was submitted and accept no more; ``run`` still works."""
        self._scheduler.close()

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
        """What ``submit`` queues with: add to its ``observers`` to be told of every batch that it runs."""
        return self._scheduler

    @property
    def task(self) -> str | None:
        """The model's task as in the manifest; None if the program has none."""
        return self._task

    @property
    def manifest(self) -> Manifest | None:
        """What the artifact's manifest says; None if the program has none."""
        return self._artifact.manifest

    @property
    def reads_texts(self) -> bool:
        """Whether the artifact has a tokenizer, so that texts can be given."""
        return self._encoder is not None

    def build(self) -> None:
        """Build this model's TensorRT engine if it is not there, check it, and answer from it from now on.

        It takes minutes; not while other threads run this Predictor. BackendError says what is missing or
        wrong, and then nothing has changed.
        """
        self._backend, self._skipped = choose("tensorrt", self._artifact, self._options)
        self._scheduler.close()
        self._scheduler = self._new_scheduler()

    def info(self) -> dict[str, Any]:
        """How this Predictor answers, ready for JSON: backend, why others were skipped, files, config.

        ``left_out``: the backends that the artifact was not verified on, and why not.
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
            "notes": [self._without_manifest()] if manifest is None else [],
            **self._backend.info(),
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
                "pass it from the CPU, or use backend='cuda'"
            )
        if truncate or positions is not None:
            raise InputError("truncate and positions are for batches on the CPU")
        return run(batch, self._limits, self._names(outputs))  # type: ignore[no-any-return]

    def _new_scheduler(self) -> Scheduler:
        backend, manifest = self._backend, self.manifest
        usual = backend.tokens_per_pass if isinstance(backend, PaddedBackend) else DEFAULT_TOKENS
        scheduler = self._make_scheduler(
            backend.run,
            max_batch_tokens=usual if self._max_batch_tokens is None else self._max_batch_tokens,
            padded=isinstance(backend, PaddedBackend),
            is_per_token=None if manifest is None else manifest.head.is_per_token,
        )
        # Without this its thread would outlive the Predictor. At exit, waiting requests are dropped.
        weakref.finalize(self, scheduler.close, cancel=True)
        return scheduler

    def _packed(
        self, batch: object, outputs: Iterable[str] | None, truncate: bool, positions: object
    ) -> tuple[PackedBatch, tuple[str, ...], Int32 | None]:
        """The arguments of Backend.run."""
        names = self._names(outputs)
        if positions is not None and PREDICTION_SCORES not in names:
            raise InputError(f"positions is for {PREDICTION_SCORES}, which is not among {', '.join(names)}")
        packed = batch if isinstance(batch, PackedBatch) else self.pack(batch, truncate=truncate)
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
            raise InputError(NO_TOKENIZER)
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
            manifest.head.multi_label,
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
