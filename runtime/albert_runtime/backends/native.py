"""The C++ engine. Weights are packed once for one artifact, precision and instruction set, and shared: by the
Predictors of a process, by its forked children, and through native_cache.py by all processes of the user.
"""

import os
import threading
from collections.abc import Sequence
from weakref import WeakValueDictionary

import numpy as np

from .. import _native
from ..artifact.artifact import Artifact
from ..artifact.manifest import SUFFIX, Manifest
from ..batch.packed import Int32, PackedBatch
from ..errors import ArtifactError, BackendError, WrongSettingError
from .base import Array, Options, one_line
from .engine_outputs import Results, ScorePlaces, Wanted, masked_logit
from .native_cache import PackedFile
from .sentence_pooling import SentencePooler

_WIDENED = {"fp16": "fp32"}
_engines: "WeakValueDictionary[tuple[object, ...], _native.Engine]" = WeakValueDictionary()
_lock = threading.Lock()


def _renew_lock() -> None:
    # A child forked while another thread was packing would wait for ever.
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


class NativeBackend:
    """Runs packed tokens on the engine, whose ``run`` any number of threads may call."""

    name = "native"

    def __init__(self, artifact: Artifact, options: Options) -> None:
        """Pack the weights in the precision, fp16 widened to fp32, or share those already packed.

        Before they are packed, the sha256 of the weight file is compared with the manifest. Where the cache
        has them packed, only the word embeddings are read from that file, and the engine compares their
        checksum with that of the file which was packed; if they differ, all is checked as if packed anew.

        BackendError if the artifact has no manifest or ALBERT_FORCE_ISA asks for what this machine lacks;
        ArtifactError if the weights are not those that were exported.
        """
        if artifact.manifest is None:
            raise BackendError(f"the C++ engine needs {artifact.stem}{SUFFIX}; export the model again")
        precision = _WIDENED.get(options.precision, options.precision)
        self._engine = _shared_engine(artifact, artifact.manifest, precision)
        self._config, self._head = artifact.manifest.config, artifact.manifest.head
        self.pooler = SentencePooler.of(artifact)
        self._threads = options.num_threads
        self.outputs = artifact.manifest.outputs

    def run(
        self, batch: PackedBatch, outputs: Sequence[str], score_tokens: Int32 | None = None
    ) -> dict[str, Array]:
        """See Backend.run. What no output needs is not computed: without per-token outputs the last layer
        runs for the first tokens alone, and the vocabulary is scored at ``score_tokens`` only.
        """
        rows, width = batch.shape
        hidden_size, labels = self._config.hidden_size, self._head.num_labels
        wanted, found = Wanted.of(outputs, self._head), Results()
        if wanted.hidden:
            found.hidden = np.zeros((rows, width, hidden_size), np.float32)
        if wanted.states:
            count = self._config.num_hidden_layers + 1  # the embeddings come first
            found.states = np.zeros((rows, width, count, hidden_size), np.float32)
        if wanted.pooled:
            found.pooled = np.empty((rows, hidden_size), np.float32)
        if wanted.pooled_logits:
            found.pooled_logits = np.empty((rows, labels), np.float32)
        if wanted.token_logits:
            fill = masked_logit(self._head)
            found.token_logits = np.full((rows, width, labels), fill, np.float32)
        places = None
        if wanted.scores:
            places = ScorePlaces.of(batch, score_tokens)
            found.scores = places.room(self._config.vocab_size)
        self._engine.run(
            batch.input_ids,
            batch.positions,
            batch.token_type_ids,
            batch.row_starts,
            batch.masked_first,
            found.hidden,
            found.pooled,
            self._threads,
            hidden_states=found.states,
            token_logits=found.token_logits,
            pooled_logits=found.pooled_logits,
            scores=found.scores,
            score_tokens=None if places is None else places.tokens,
            score_slots=None if places is None else places.slots,
        )
        return found.named(outputs, self._head, batch, score_tokens, self.pooler)

    def info(self) -> dict[str, object]:
        """See Backend.info."""
        return {
            "isa": self._engine.isa,
            "computes": self._engine.precision,
            "packed_bytes": self._engine.packed_bytes,
            "packed_in": self._engine.packed_file or "memory",
            "num_threads": self._threads,
        }


def chosen_isa() -> str:
    """The instruction set of engines; WrongSettingError if ALBERT_FORCE_ISA names none of this machine."""
    try:
        return _native.default_isa()
    except ValueError as error:
        raise WrongSettingError(one_line(error)) from None


def _shared_engine(artifact: Artifact, manifest: Manifest, precision: str) -> _native.Engine:
    isa = chosen_isa()
    # The same weights may serve another config: base-v1 and base-v2 differ in their activation only.
    key = (
        *(manifest.files["weights"].sha256, precision, isa),
        *(manifest.config, manifest.head, manifest.tensors),
    )
    with _lock:
        engine = _engines.get(key)
        if engine is None:
            engine = _engines[key] = _build(artifact, manifest, isa, precision)
    return engine


def _build(artifact: Artifact, manifest: Manifest, isa: str, precision: str) -> _native.Engine:
    config, head = manifest.config, manifest.head
    tensors = {tensor.name: (tensor.dtype, tensor.offset, tensor.shape) for tensor in manifest.tensors}
    cache = PackedFile.of(manifest, precision, isa)
    try:
        engine = _native.Engine(
            os.fsencode(artifact.files["weights"]),
            tensors,
            isa=isa,
            vocab_size=config.vocab_size,
            embedding_size=config.embedding_size,
            hidden_size=config.hidden_size,
            num_hidden_layers=config.num_hidden_layers,
            num_hidden_groups=config.num_hidden_groups,
            inner_group_num=config.inner_group_num,
            num_attention_heads=config.num_attention_heads,
            intermediate_size=config.intermediate_size,
            hidden_act=config.hidden_act,
            max_position_embeddings=config.max_position_embeddings,
            type_vocab_size=config.type_vocab_size,
            layer_norm_eps=config.layer_norm_eps,
            padding_idx=-1 if config.padding_idx is None else config.padding_idx,
            add_pooling_layer=config.add_pooling_layer,
            token_classifier="" if head.reads_pooled else head.classifier,
            pooled_classifier=head.classifier if head.reads_pooled else "",
            vocabulary_head=head.reads_vocabulary,
            decoder_norm_eps=head.decoder_norm_eps,
            precision=precision,
            cache_path="" if cache is None else os.fspath(cache.path),
            cache_key=b"" if cache is None else cache.key,
            # By then the engine has mapped the file: what is hashed is what it packs, and others share.
            before_packing=lambda: artifact.verify_file("weights"),
        )
    except (ValueError, RuntimeError, OSError) as error:
        path = artifact.files["weights"]
        raise ArtifactError(f"{path}: the C++ engine cannot load it ({one_line(error)})") from None
    if cache is not None:
        cache.used(engine)
    return engine
