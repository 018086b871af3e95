"""Fixtures shared by all tests: exported artifacts, each made once per run through the command itself.

A run may have several processes (pytest-xdist's workers): ``run_folder`` is the one folder that they share.
"""

import fcntl
import hashlib
import importlib.util
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from albert_bench import machine
from albert_export.cli import main
from albert_export.variants import VARIANTS
from albert_runtime import _native
from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.backends.nvidia import find_gpu
from albert_runtime.errors import BackendError
from albert_runtime.telemetry import turn_telemetry_off
from albert_runtime.threads import available_cpus

GOLDEN = Path(__file__).parent / "data" / "golden"

# What the largest export of a test takes: a worker is started only where that much memory is there for it.
WORKER_BYTES = 4 * 2**30
MATH_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

turn_telemetry_off()  # tests import ONNX Runtime too

try:
    find_gpu()
except BackendError:
    # Triton reads this when it is imported: its kernels then run on the CPU.
    os.environ["TRITON_INTERPRET"] = "1"

ExportArtifact = Callable[..., Path]
MakeOnce = Callable[..., Path]
WriteCheckpoint = Callable[..., Path]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: one for each CPU that this process may use, as far as the memory goes."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(available_cpus(), memory // WORKER_BYTES))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Workers share the CPUs: in each, the libraries' products run in one thread, in its children too."""
    for name in MATH_THREADS:
        os.environ.setdefault(name, "1")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says on which processor and instruction set the tests ran."""
    found = machine.describe()
    try:
        chosen = _native.default_isa()
    except ValueError as error:
        chosen = str(error)
    names = ("ALBERT_FORCE_ISA", "ONEDNN_MAX_CPU_ISA")
    forced = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    terminalreporter.section("machine")
    terminalreporter.line(f"{found['cpu']}, {found['cpus']} CPUs, {' '.join(found['instructions'])}")
    terminalreporter.line(" ".join([f"engine: {chosen} of", *_native.isas(), *forced]))


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
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # a worker has one in the run's


@pytest.fixture(scope="session")
def make_once(run_folder: Path) -> MakeOnce:
    """make_once(name, make) -> the run's folder ``name``, which make(folder) filled in the process that came
    first; others wait for it. Whoever removes the folder has it made again."""
    locks = run_folder / "locks"
    locks.mkdir(exist_ok=True)

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder, part = run_folder / name, run_folder / f"{name}.part"
        with (locks / name).open("w") as lock:  # let go when it is closed, by the end of the process too
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                shutil.rmtree(part, ignore_errors=True)  # of one that failed
                part.mkdir()
                make(part)
                part.rename(folder)
        return folder

    return made


@pytest.fixture(scope="session")
def export_artifact(make_once: MakeOnce) -> ExportArtifact:
    """export_artifact(model, *, small_layers=None, seed=None, format="pdmodel", precision="fp32") -> program.

    ``model`` is a variant's name or a checkpoint folder. A variant gets seeded random weights (seed 0 if
    None), a folder its own unless a seed is given. ``small_layers`` cuts a variant to that many layers; all
    its other sizes and its whole way through the exporter stay the same. Where Paddle is not installed, on a
    serving machine or one lent for its GPU, what asks for an export is skipped and says so.
    """

    def export(
        model: str | Path,
        *,
        small_layers: int | None = None,
        seed: int | None = None,
        format: str = "pdmodel",
        precision: str = "fp32",
    ) -> Path:
        if importlib.util.find_spec("paddle") is None:
            pytest.skip("albert-export needs Paddle, which is not installed here")
        source = str(model)
        if source in VARIANTS:
            seed = seed or 0
            if small_layers is not None:
                config = replace(VARIANTS[source], num_hidden_layers=small_layers)
                folder = make_once(
                    f"{source}-{small_layers}-layers",
                    lambda part: write_checkpoint(part / Path(source).name, config),
                )
                source = str(folder / source)
        options = [f"--format={format}"]
        options += [] if seed is None else [f"--random-weights={seed}"]
        options += [] if precision == "fp32" else [f"--{precision}"]

        def run(part: Path) -> None:
            code = main([source, "-o", str(part), "--quiet", *options])
            assert code == 0, f"albert-export {source} failed"

        stem = Path(source).name if precision == "fp32" else f"{Path(source).name}-{precision}"
        named = hashlib.sha256(repr((source, options)).encode()).hexdigest()[:16]
        return make_once(f"artifact-{stem}-{named}", run) / f"{stem}.{format}"

    return export
