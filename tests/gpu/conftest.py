"""What needs a GPU is skipped where there is none, and says so; artifacts are made without Paddle."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from albert_export.checkpoint.weights import RandomWeights
from albert_export.onnx_graph import write_onnx
from albert_export.onnx_nodes import Numbers
from albert_export.precision import PRECISIONS, dtypes, rounded
from albert_export.variants import VARIANTS
from albert_runtime.artifact.config import LAYERS, AlbertConfig
from albert_runtime.artifact.manifest import SUFFIX, FileRecord, Manifest
from albert_runtime.artifact.tasks import INPUTS, Head
from albert_runtime.artifact.tensor_table import TensorRecord
from albert_runtime.backends.nvidia import Gpu, find_gpu
from albert_runtime.errors import BackendError

# Post-LayerNorm states and what comes of them stay within these for seeded weights.
_RANGE = 8.0
BARE = Head()


@pytest.fixture(scope="session", autouse=True)
def card() -> Gpu:
    """The GPU of this machine; without one all tests here are skipped."""
    try:
        return find_gpu()
    except BackendError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """artifact(variant, precision="fp32", layers=None, head=BARE) -> its manifest, with seeded weights."""

    def make(variant: str, precision: str = "fp32", layers: int | None = None, head: Head = BARE) -> Path:
        config = VARIANTS[variant]
        if layers is not None:
            config = replace(config, num_hidden_layers=layers)
        return write_artifact(
            tmp_path_factory.mktemp("gpu"),
            f"{variant}-{precision}",
            config,
            precision,
            head,
        )

    return make


def write_artifact(folder: Path, stem: str, config: AlbertConfig, precision_name: str, head: Head) -> Path:
    """Weight file, graph and manifest of a model; there is no Paddle program."""
    precision = PRECISIONS[precision_name]
    types = dtypes(config, head, precision)
    weights, graph = folder / f"{stem}.pdiparams", folder / f"{stem}.onnx"
    tensors = []
    with weights.open("wb") as file:
        source = RandomWeights(0).load(config, head)[0]
        for name, values in rounded(source, types):
            data = np.ascontiguousarray(values).tobytes()
            tensors.append(TensorRecord(name, types[name], values.shape, file.tell(), len(data)))
            file.write(data)
    uses = config.num_hidden_layers // config.num_hidden_groups
    ranges = {
        tensor.name: [_RANGE] * uses
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
        weights_origin={"kind": "random", "seed": 0},
        config=config,
        labels=None,
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
    return FileRecord(path.name, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
