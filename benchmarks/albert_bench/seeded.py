"""Artifacts made without Paddle: weight file, graph and manifest of seeded or stored weights, no program."""

import hashlib
from pathlib import Path

import numpy as np

from albert_export.checkpoint.folder import read_folder
from albert_export.checkpoint.weights import RandomWeights
from albert_export.onnx_graph import write_onnx
from albert_export.onnx_nodes import Numbers
from albert_export.precision import PRECISIONS, dtypes, rounded
from albert_export.sources import checkpoint_source
from albert_export.variants import VARIANTS
from albert_export.weight_source import WeightSource
from albert_runtime.artifact.config import LAYERS, AlbertConfig
from albert_runtime.artifact.manifest import SUFFIX, FileRecord, Manifest
from albert_runtime.artifact.tasks import INPUTS, Head
from albert_runtime.artifact.tensor_table import TensorRecord
from albert_runtime.files import sha256_file

from .output import log

# A model of no published size, which even Triton's interpreter runs in seconds.
TINY = "tiny"
BARE = Head()
SEEDED = RandomWeights(0)
# Post-LayerNorm states and what comes of them stay within these for seeded weights.
_RANGE = 8.0


def config_of(variant: str) -> AlbertConfig:
    """The config of a published variant, or of TINY."""
    if variant != TINY:
        return VARIANTS[variant]
    return AlbertConfig(
        vocab_size=100,
        embedding_size=16,
        hidden_size=64,
        num_hidden_layers=2,
        num_hidden_groups=1,
        inner_group_num=1,
        num_attention_heads=2,
        intermediate_size=128,
        hidden_act="gelu_new",
        max_position_embeddings=64,
        type_vocab_size=2,
        layer_norm_eps=1e-12,
        pad_token_id=0,
        padding_idx=0,
        add_pooling_layer=True,
        initializer_range=0.1,
    )


def seeded_artifact(folder: Path, variant: str, precision: str = "fp32") -> Path:
    """The manifest of a variant with seeded weights in ``folder``, written there unless it exists.

    Args:
        folder: Where the artifacts are kept.
        variant: Name of a published variant, or TINY.
        precision: fp32, fp16, bf16 or int8.
    """
    stem = variant if precision == "fp32" else f"{variant}-{precision}"
    path = folder / f"{stem}{SUFFIX}"
    if not path.exists():
        log(f"writing {stem} with seeded weights")
        folder.mkdir(parents=True, exist_ok=True)
        write_artifact(folder, stem, config_of(variant), precision, BARE)
    return path


def checkpoint_artifact(folder: Path, checkpoint: Path) -> Path:
    """The manifest of a checkpoint folder's model in fp32, written to ``folder``.

    Raises:
        AlbertError: The checkpoint cannot be read.
    """
    found = read_folder(checkpoint)
    task = found.description.task()
    source = checkpoint_source(found.description, found.weights_file(), task, task_given=False)
    folder.mkdir(parents=True, exist_ok=True)
    return write_artifact(
        folder, checkpoint.name, source.config, "fp32", source.head, source.weights, source.labels
    )


def write_artifact(
    folder: Path,
    stem: str,
    config: AlbertConfig,
    precision_name: str,
    head: Head,
    source: WeightSource = SEEDED,
    labels: tuple[str, ...] | None = None,
) -> Path:
    """Write an artifact; the path of its manifest, which is written last.

    Args:
        folder: An existing folder.
        stem: What the names of the files start with.
        config: The encoder.
        precision_name: fp32, fp16, bf16 or int8. The ranges of int8 activations fit seeded weights only.
        head: The task's head.
        source: The weights.
        labels: Names of the head's labels, for tasks that have them.
    """
    precision = PRECISIONS[precision_name]
    types = dtypes(config, head, precision)
    weights, graph = folder / f"{stem}.pdiparams", folder / f"{stem}.onnx"
    tensors = []
    read = hashlib.sha256()
    with weights.open("wb") as file:
        for name, values in rounded(source.load(config, head, read)[0], types):
            data = np.ascontiguousarray(values).tobytes()
            tensors.append(TensorRecord(name, types[name], values.shape, file.tell(), len(data)))
            file.write(data)
    ranges = {
        tensor.name: [_RANGE] * config.num_hidden_layers  # a matrix has no more uses
        for tensor in tensors
        if tensor.dtype == "int8" and tensor.name.startswith(LAYERS)
    }
    write_onnx(graph, config, head, Numbers(precision, ranges), tensors, weights.name, "0")
    files = {role: _record(path) for role, path in (("weights", weights), ("onnx", graph))}
    manifest = Manifest(
        name=stem,
        task=head.task,
        head=head,
        precision=precision_name,
        created_by={},
        weights_origin=source.origin(read.hexdigest()),
        config=config,
        labels=labels,
        inputs=INPUTS,
        outputs=head.outputs(config),
        files=files,
        tensors=tuple(tensors),
        verification={},
    )
    path = folder / f"{stem}{SUFFIX}"
    manifest.write(path)
    return path


def _record(path: Path) -> FileRecord:
    return FileRecord(path.name, path.stat().st_size, sha256_file(path))
