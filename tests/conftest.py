"""Fixtures shared by all tests: exported artifacts, each made once per session through the command itself."""

import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from albert_export.cli import main
from albert_export.variants import VARIANTS
from albert_runtime.config import AlbertConfig

GOLDEN = Path(__file__).parent / "data" / "golden"

ExportArtifact = Callable[..., Path]
WriteCheckpoint = Callable[..., Path]


def write_checkpoint(
    folder: Path,
    config: AlbertConfig,
    tensors: Mapping[str, np.ndarray] | None = None,
    architecture: str = "AlbertModel",
    **more: object,
) -> Path:
    """A PaddleNLP folder of config.json and, with ``tensors``, model_state.pdparams; returns ``folder``.

    ``more`` are further fields of the config.
    """
    folder.mkdir(parents=True, exist_ok=True)
    values = {**config.to_dict(), "model_type": "albert", "architectures": [architecture], **more}
    del values["padding_idx"]
    (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
    if tensors is not None:
        (folder / "model_state.pdparams").write_bytes(pickle.dumps(dict(tensors), protocol=4))
    return folder


@pytest.fixture(scope="session", autouse=True)
def packed_cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Packed weights are kept in a folder of the session, by child processes too, not in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALBERT_PACKED_CACHE", str(tmp_path_factory.mktemp("packed")))
        yield


@pytest.fixture(scope="session", name="write_checkpoint")
def write_checkpoint_fixture() -> WriteCheckpoint:
    """write_checkpoint(folder, config, tensors=None, architecture=..., **more) -> ``folder``, a PaddleNLP
    checkpoint with ``more`` in its config."""
    return write_checkpoint


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of golden cases, which its README.md lists: four bare models and five tasks."""
    return GOLDEN


@pytest.fixture(scope="session")
def export_artifact(tmp_path_factory: pytest.TempPathFactory) -> ExportArtifact:
    """export_artifact(model, *, small_layers=None, seed=None, format="pdmodel", precision="fp32") -> program.

    ``model`` is a variant's name or a checkpoint folder. A variant gets seeded random weights (seed 0 if
    None), a folder its own unless a seed is given. ``small_layers`` cuts a variant to that many layers; all
    its other sizes and its whole way through the exporter stay the same.
    """
    made: dict[tuple[object, ...], Path] = {}

    def export(
        model: str | Path,
        *,
        small_layers: int | None = None,
        seed: int | None = None,
        format: str = "pdmodel",
        precision: str = "fp32",
    ) -> Path:
        key = (str(model), small_layers, seed, format, precision)
        if key not in made:
            folder = tmp_path_factory.mktemp("artifact")
            made[key] = _export(folder, model, small_layers, seed, format, precision)
        return made[key]

    return export


def _export(
    folder: Path,
    model: str | Path,
    small_layers: int | None,
    seed: int | None,
    program_format: str,
    precision: str,
) -> Path:
    source = str(model)
    if source in VARIANTS:
        seed = seed or 0
        if small_layers is not None:
            config = replace(VARIANTS[source], num_hidden_layers=small_layers)
            source = str(write_checkpoint(folder / "source" / source, config))
    weights = [] if seed is None else ["--random-weights", str(seed)]
    target = folder / "out"
    narrow = [] if precision == "fp32" else [f"--{precision}"]
    code = main([source, "-o", str(target), "--format", program_format, "--quiet", *weights, *narrow])
    assert code == 0, f"albert-export {source} failed"
    stem = Path(source).name if precision == "fp32" else f"{Path(source).name}-{precision}"
    return target / f"{stem}.{program_format}"
