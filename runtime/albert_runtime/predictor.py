"""Predictor: from an exported model to numpy arrays."""

import asyncio
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

from .artifact.manifest import Manifest
from .backends.base import Outputs
from .backends.padded import PaddedBackend
from .batch.on_gpu import is_on_gpu
from .batch.packed import PackedBatch
from .errors import BackendError, DeadlineExceeded, InputError
from .loaded_model import LoadedModel
from .proof import Proved, check_provable
from .proof import prove as prove_answers
from .scheduler.requests import Request
from .scheduler.scheduler import DEFAULT_TOKENS, Scheduler
from .text.long_texts import LONG_TEXTS, count_characters
from .text.methods import TextAnswers
from .text.stream import ModelCall
from .text.task_method import TextModel
from .threads import MAX_THREADS

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
        self._model = LoadedModel(
            path,
            backend,
            precision=precision,
            device=device,
            num_threads=num_threads,
            max_batch=max_batch,
            max_length=max_length,
            verify=verify,
            prove=prove,
        )
        self._max_batch_tokens = max_batch_tokens
        self._make_scheduler = partial(scheduler, max_queue=max_queue, max_queue_delay=max_queue_delay)
        self._scheduler = self._new_scheduler()
        self._proved = prove_answers(self._model.artifact, self._model.backend, self.run) if prove else None
        self._model.artifact.check_unchanged()

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
        return self._model.backend.run(*self._model.prepare(batch, outputs, truncate, positions))

    def pack(self, batch: object, *, truncate: bool = False) -> PackedBatch:
        """Check a batch and pack its tokens one after another, without padding.

        ``run``, ``submit`` and ``arun`` take the result in place of the batch, any number of times.

        Args:
            batch: A batch in any form that ``run`` takes, except arrays on a GPU.
            truncate: Cut rows longer than the model's positions instead of refusing them.

        Raises:
            InputError: The batch breaks a rule; the message names the row, the value and the limit.
        """
        return self._model.pack(batch, truncate=truncate)

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
        packed, names, tokens = self._model.prepare(batch, outputs, truncate, positions)
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
        return partial(type(self), **self._given), (self._model.artifact.path,)

    def __enter__(self) -> "Predictor":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def backend(self) -> str:
        """The name of the backend in use."""
        return self._model.backend.name

    @property
    def scheduler(self) -> Scheduler:
        """What ``submit`` queues with; it calls its ``observers`` with the BatchStats of every batch."""
        return self._scheduler

    @property
    def task(self) -> str | None:
        """The model's task; None for a program without a manifest."""
        return None if self.manifest is None else self.manifest.task

    @property
    def manifest(self) -> Manifest | None:
        """The artifact's manifest; None for a program without one."""
        return self._model.manifest

    @property
    def proved(self) -> Proved | None:
        """What was proved while this Predictor loaded; None without ``prove``."""
        return self._proved

    @property
    def reads_texts(self) -> bool:
        """Whether the artifact has a tokenizer, so that batches may be texts."""
        return self._model.encoder is not None

    def build(self) -> None:
        """Build and check this model's TensorRT engine, unless that was done before, and use it from now on.

        This takes minutes. Do not call it while other threads use this Predictor.

        Raises:
            ArtifactError: The files are no longer those that this Predictor loaded.
            BackendError: Something is missing, or the engine gives wrong results, or this Predictor was
                loaded with ``prove``; nothing has changed then.
        """
        if self._proved is not None:
            check_provable(self._model.artifact, "tensorrt")
        self._model.build_tensorrt()
        self._scheduler.close()
        self._scheduler = self._new_scheduler()

    def info(self) -> dict[str, Any]:
        """Describe this Predictor, ready for JSON: backend, why others were skipped, files, config.

        ``left_out`` holds the backends that the artifact was not verified on, and why not; ``proved`` what
        was compared with the export bit by bit, or None.
        """
        return {**self._model.info(), "proved": None if self._proved is None else asdict(self._proved)}

    def __repr__(self) -> str:
        artifact = self._model.artifact
        return f"Predictor({str(artifact.folder / artifact.stem)!r}, backend={self.backend!r})"

    def _run_on_gpu(
        self, batch: object, outputs: Iterable[str] | None, *, truncate: bool, positions: object
    ) -> dict[str, NDArray[np.float32]]:
        run = getattr(self._model.backend, "run_on_gpu", None)
        if run is None:
            raise InputError(
                f"the batch is on a GPU, which backend {self.backend!r} does not read; "
                "pass it from the CPU, or use backend='gpu'"
            )
        if truncate or positions is not None:
            raise InputError("truncate and positions are for batches on the CPU")
        return run(batch, self._model.limits, self._model.output_names(outputs))  # type: ignore[no-any-return]

    def _new_scheduler(self) -> Scheduler:
        backend, manifest = self._model.backend, self.manifest
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

    def _submit_call(self, call: ModelCall) -> "Future[Outputs]":
        return self._scheduler.submit(Request(call.batch, call.outputs, call.score_tokens))

    def _text_model(self, method: str) -> TextModel:
        return self._model.text_model(method)


def _cancel_submitted(submitting: "asyncio.Future[Future[Outputs]]") -> None:
    if not submitting.cancelled() and submitting.exception() is None:
        submitting.result().cancel()


def _check_whole(name: str, value: object, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise BackendError(f"{name} is {value!r}; give a whole number from 1 to {most}, or None")
