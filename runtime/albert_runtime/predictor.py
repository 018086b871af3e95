"""Predictor: from an exported model to numpy arrays."""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from .answers import Answer, Setting, answer_all, stream
from .artifact import Artifact
from .backends import Options, available_cpus, choose
from .backends.base import SCORES
from .backends.dlpack import is_on_gpu
from .batch import Limits
from .errors import BackendError, InputError
from .manifest import SUFFIX, Manifest
from .packing import NO_TOKENIZER, pack
from .positions import tokens_at
from .tasks import MULTIPLE_CHOICE, QUESTION_ANSWERING
from .tokenizer import Text, TextEncoder

_log = logging.getLogger("albert_runtime")
_MAX_THREADS = 1024


class Predictor:
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
        verify: bool = False,
    ) -> None:
        threads = _threads(num_threads)
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
        self._limits = Limits() if manifest is None else Limits.of(manifest.config)
        self._hidden_size = 0 if manifest is None else manifest.config.hidden_size
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
        * a list of strings or (str, str) pairs, or one string, if the artifact has a tokenizer.

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
        names = self._names(outputs)
        if positions is not None and SCORES not in names:
            raise InputError(f"positions is for {SCORES}, which is not among {', '.join(names)}")
        if is_on_gpu(batch):
            return self._run_on_gpu(batch, names, truncate=truncate, positions=positions)
        packed = pack(batch, self._limits, encoder=self._encoder, truncate=truncate, choices=self._choices)
        return self._backend.run(packed, names, None if positions is None else tokens_at(packed, positions))

    @overload
    def classify(self, texts: str, *, top_k: int | None = None, truncate: bool = False) -> Answer: ...  # type: ignore[overload-overlap]
    @overload
    def classify(
        self, texts: Iterable[Text], *, top_k: int | None = None, truncate: bool = False
    ) -> list[Answer]: ...
    def classify(self, texts: Any, *, top_k: int | None = None, truncate: bool = False) -> Any:
        """The label of each text or (text, text) pair: {"label", "score"}, the score a probability.

        ``top_k`` adds "probabilities", that many labels to theirs, the likeliest first. A model of one label
        was trained by regression: its score is the logit itself. One trained for several labels at a time
        (problem_type multi_label_classification) gives each a probability of its own, all of them unless
        ``top_k`` says how many. One string gives one answer, a list or any
        iterable a list, here and in all methods that take texts; long ones run in batches bounded by tokens,
        with a progress bar on a terminal. ``truncate`` cuts texts that are too long, which are an error
        otherwise. Raises InputError naming the row, or the method that fits the model.
        """
        return self._answer("classify", texts, top_k=top_k, truncate=truncate)

    @overload
    def tag(self, texts: str, *, truncate: bool = False) -> list[Answer]: ...  # type: ignore[overload-overlap]
    @overload
    def tag(self, texts: Iterable[str], *, truncate: bool = False) -> list[list[Answer]]: ...
    def tag(self, texts: Any, *, truncate: bool = False) -> Any:
        """The entities in each text, in order: {"label", "text", "start", "end", "score"}.

        ``start`` and ``end`` are characters of the text. A word has the label of its first token. Labels such
        as B-PER and I-PER, or PER and O, merge neighbours into one entity, its score the mean of its words';
        where no label says what is outside, every word is tagged by itself.
        """
        return self._answer("tag", texts, truncate=truncate)

    @overload
    def fill_mask(self, text: str, *, top_k: int = 5, truncate: bool = False) -> Answer: ...  # type: ignore[overload-overlap]
    @overload
    def fill_mask(self, text: Iterable[str], *, top_k: int = 5, truncate: bool = False) -> list[Answer]: ...
    def fill_mask(self, text: Any, *, top_k: int = 5, truncate: bool = False) -> Any:
        """What stands best for each [MASK]: {"text", "masks"}, the text filled with the likeliest tokens.

        "masks" has for each mask {"start", "end", "candidates"}, its characters in the given text and
        ``top_k`` times {"token", "score", "text"}: the probability, and the text with this token in this
        place.
        """
        return self._answer("fill_mask", text, top_k=top_k, truncate=truncate)

    def embed(
        self,
        texts: str | Iterable[Text],
        *,
        pooling: str = "mean",
        normalize: bool = True,
        truncate: bool = False,
    ) -> NDArray[np.float32]:
        """A vector [H] of one string, or vectors [B, H] of texts or (text, text) pairs.

        ``pooling`` is mean (of all tokens, [CLS] and [SEP] too), cls (the first token's state) or pooler (the
        model's pooled output). ``normalize`` scales each to length 1.
        """
        options = {"pooling": pooling, "normalize": normalize, "truncate": truncate}
        vectors = self._answer("embed", texts, **options)
        if isinstance(texts, str):
            return vectors  # type: ignore[no-any-return]
        return np.array(vectors, np.float32).reshape(len(vectors), self._hidden_size)

    def answer(
        self,
        question: str,
        context: str,
        *,
        stride: int = 128,
        max_tokens: int = 30,
        allow_no_answer: bool = False,
    ) -> Answer:
        """The span of the context that answers: {"text", "score", "start", "end"}, characters of the context.

        A context longer than the model's positions runs in windows that share ``stride`` tokens. The span, of
        at most ``max_tokens`` tokens widened to whole words, is the likeliest of all windows, and ``score``
        its probability. ``allow_no_answer``, for models trained on questions without answer (as in SQuAD 2),
        gives the empty span {"text": "", "start": 0, "end": 0} if in every window it is likelier than that
        span; its score is then that in the window where it is least likely.
        """
        options = {"stride": stride, "max_tokens": max_tokens, "allow_no_answer": allow_no_answer}
        return next(self.stream("answer", [(question, context)], **options))

    def choose(self, prompt: str, choices: Sequence[str], *, truncate: bool = False) -> Answer:
        """The choice that fits the prompt best: {"choice", "index", "score", "probabilities"}."""
        return next(self.stream("choose", [(prompt, choices)], truncate=truncate))

    def stream(self, method: str, items: Iterable[object], **options: Any) -> Iterator[Any]:
        """Answers of any number of items, one after another in their order, without keeping them in memory.

        ``method`` is classify, tag, fill_mask, embed, answer or choose, ``options`` are its keywords. Items
        are texts; pairs (question, context) for answer; pairs (prompt, choices) for choose.
        """
        return stream(self._setting(method), method, items, options)

    @property
    def backend(self) -> str:
        """The backend in use: native, onnxruntime or paddle."""
        return self._backend.name

    @property
    def task(self) -> str | None:
        """The model's task as in the manifest; None if the program has none."""
        return self._task

    @property
    def manifest(self) -> Manifest | None:
        """What the artifact's manifest says; None if the program has none."""
        return self._artifact.manifest

    def build(self) -> None:
        """Build this model's TensorRT engine if it is not there, check it, and answer from it from now on.

        It takes minutes; not while other threads run this Predictor. BackendError says what is missing or
        wrong, and then nothing has changed.
        """
        self._backend, self._skipped = choose("tensorrt", self._artifact, self._options)

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

    def _run_on_gpu(
        self, batch: object, names: Sequence[str], *, truncate: bool, positions: object
    ) -> dict[str, NDArray[np.float32]]:
        run = getattr(self._backend, "run_on_gpu", None)
        if run is None:
            raise InputError(
                f"the batch is on a GPU, which backend {self.backend!r} does not read; "
                "pass it from the CPU, or use backend='cuda'"
            )
        if truncate or positions is not None:
            raise InputError("truncate and positions are for batches on the CPU")
        return run(batch, self._limits, names)  # type: ignore[no-any-return]

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

    def _answer(self, method: str, texts: object, **options: Any) -> Any:
        return answer_all(self._setting(method), method, texts, options)

    def _setting(self, method: str) -> Setting:
        manifest = self.manifest
        if manifest is None:
            raise InputError(
                f"{method} needs to know the model's task, and {self._artifact.stem} has no "
                f"{self._artifact.stem}{SUFFIX}; export the model again, or use run"
            )
        if self._encoder is None:
            raise InputError(NO_TOKENIZER)
        labels = manifest.labels or ()
        return Setting(
            manifest.name,
            manifest.task,
            labels,
            self._backend.outputs,
            self._limits,
            self._encoder,
            self.run,
            manifest.head.multi_label,
        )

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
