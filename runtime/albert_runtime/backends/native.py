"""The C++ engine. Weights are packed once per process for one artifact and instruction set."""

import os
import threading
from collections.abc import Sequence
from weakref import WeakValueDictionary

import numpy as np

from .. import _native
from ..artifact import Artifact
from ..batch import PackedBatch
from ..errors import ArtifactError, BackendError
from ..manifest import SUFFIX, Manifest
from .base import Array, one_line

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

    def __init__(self, artifact: Artifact, num_threads: int) -> None:
        """Pack the weights or share those already packed.

        BackendError if the artifact has no manifest or ALBERT_FORCE_ISA asks for what this machine lacks;
        ArtifactError if the weights are not those that were exported.
        """
        if artifact.manifest is None:
            raise BackendError(f"the C++ engine needs {artifact.stem}{SUFFIX}; export the model again")
        self._engine = _shared_engine(artifact, artifact.manifest)
        self._hidden_size = artifact.manifest.config.hidden_size
        self._threads = num_threads
        self.outputs = artifact.manifest.outputs

    def run(self, batch: PackedBatch, outputs: Sequence[str]) -> dict[str, Array]:
        """See Backend.run. Without last_hidden_state the last layer runs for the first tokens alone."""
        rows, width = batch.shape
        results: dict[str, Array] = {}
        if "last_hidden_state" in outputs:
            results["last_hidden_state"] = np.zeros((rows, width, self._hidden_size), np.float32)
        if "pooled_output" in outputs:
            results["pooled_output"] = np.empty((rows, self._hidden_size), np.float32)
        self._engine.run(
            batch.input_ids,
            batch.positions,
            batch.token_type_ids,
            batch.row_starts,
            batch.first_key,
            results.get("last_hidden_state"),
            results.get("pooled_output"),
            self._threads,
        )
        return {name: results[name] for name in outputs}

    def info(self) -> dict[str, object]:
        """See Backend.info."""
        return {
            "isa": self._engine.isa,
            "packed_bytes": self._engine.packed_bytes,
            "num_threads": self._threads,
        }


def _shared_engine(artifact: Artifact, manifest: Manifest) -> _native.Engine:
    try:
        isa = _native.default_isa()
    except ValueError as error:  # ALBERT_FORCE_ISA names what this machine cannot run
        raise BackendError(one_line(error)) from None
    # The same weights may serve another config: base-v1 and base-v2 differ in their activation only.
    key = (manifest.files["weights"].sha256, manifest.precision, isa, manifest.config, manifest.tensors)
    with _lock:
        engine = _engines.get(key)
        if engine is None:
            artifact.verify_file("weights")
            engine = _engines[key] = _build(artifact, manifest, isa)
    return engine


def _build(artifact: Artifact, manifest: Manifest, isa: str) -> _native.Engine:
    config = manifest.config
    tensors = {tensor.name: (tensor.offset, tensor.shape) for tensor in manifest.tensors}
    try:
        return _native.Engine(
            str(artifact.files["weights"]),
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
        )
    except (ValueError, RuntimeError, OSError) as error:
        path = artifact.files["weights"]
        raise ArtifactError(f"{path}: the C++ engine cannot load it ({one_line(error)})") from None
