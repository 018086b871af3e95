"""The libraries that are compared: what each can do, and the interface through which all are driven.

Each peer is driven by a module of this package. ``build(job)`` loads a model; if files have to be made first
(quantized or fused graphs), ``prepare(job)`` writes them to ``job.folder`` once, in a process of its own.
The modules are imported only in those processes, because importing one imports its library.
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Answer = dict[str, NDArray[np.float32]]
Ids = NDArray[np.int64]

ENGINE = "engine"
PRECISIONS = ("fp32", "bf16", "int8")
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
HIDDEN, POOLED = "last_hidden_state", "pooled_output"


@dataclass(frozen=True, slots=True)
class Contender:
    """One library in one precision.

    Attributes:
        peer: Name of the library.
        precision: fp32, bf16 or int8.
        variant: A setting of the library that is compared separately.
        only: Names of the workloads it takes part in; empty for all.
    """

    peer: str
    precision: str
    variant: str = ""
    only: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name in tables, such as "paddle plain fp32"."""
        return " ".join(part for part in (self.peer, self.variant, self.precision) if part)


@dataclass(frozen=True, slots=True)
class Job:
    """What a model is built from.

    Attributes:
        artifact: Any path of the exported model.
        contender: The library and the precision.
        module: Name of the module that drives the library.
        threads: Threads the model may use.
        folder: Holds the files prepared for this contender.
        streams: Number of threads that call ``run`` at once, each using one CPU; 0 for one caller.
    """

    artifact: Path
    contender: Contender
    module: str
    threads: int
    folder: Path
    streams: int = 0


class Model(Protocol):
    """A loaded model."""

    def run(self, rows: Sequence[Ids]) -> Answer:
        """Run token ids, int64 [length] for each row.

        Returns:
            float32 last_hidden_state [B, T, H] and pooled_output [B, H]. T is the length of the longest row;
            values beyond the end of a shorter row are ignored.
        """
        ...


@dataclass(frozen=True, slots=True)
class Peer:
    """A library that takes part.

    Attributes:
        name: Its name in options and tables.
        module: Name of the module that drives it.
        packages: Names of the Python packages it needs.
        contenders: The precisions and variants that take part.
        packs: Whether it runs rows of mixed lengths without padding.
        streams: Whether several threads may run one model at once.
        prepared: The precisions that need ``prepare``.
    """

    name: str
    module: str
    packages: tuple[str, ...]
    contenders: tuple[Contender, ...]
    packs: bool = False
    streams: bool = False
    prepared: tuple[str, ...] = ()

    @property
    def remedy(self) -> str:
        """How to install it."""
        return f"pip install 'albert-runtime[{'paddle' if self.name == 'paddle' else 'bench'}]'"

    def missing(self) -> str | None:
        """The first package that is not installed."""
        absent = (name for name in self.packages if importlib.util.find_spec(name) is None)
        return next(absent, None)

    def versions(self) -> dict[str, str]:
        """Versions of the installed packages."""
        found = {}
        for name in self.packages:
            distribution = DISTRIBUTIONS.get(name, name)
            try:
                found[distribution] = metadata.version(distribution)
            except metadata.PackageNotFoundError:
                continue
        return found


def _peer(name: str, packages: tuple[str, ...], precisions: str, *more: Contender, **options: object) -> Peer:
    contenders = (*(Contender(name, precision) for precision in precisions.split()), *more)
    module = f"{__package__}.{name}_peer"
    return Peer(name, module, packages, contenders, **options)  # type: ignore[arg-type]


DISTRIBUTIONS = {"albert_runtime": "albert-runtime", "paddle": "paddlepaddle"}
_ORT_PACKAGES = ("onnxruntime", "onnx", "ml_dtypes")
# Without oneDNN Paddle is several times slower than the others; one workload is enough to show it.
PLAIN = "plain"
_PLAIN_PADDLE = Contender("paddle", "fp32", PLAIN, only=("1x128",))
_ALL = (
    _peer(ENGINE, ("albert_runtime",), "fp32 bf16 int8", packs=True),
    _peer("onnxruntime", _ORT_PACKAGES, "fp32 int8", streams=True, prepared=("fp32", "int8")),
    _peer("openvino", ("openvino", "nncf"), "fp32 bf16 int8", streams=True, prepared=("int8",)),
    _peer("torch", ("torch",), "fp32 bf16", streams=True),
    _peer("paddle", ("paddle",), "fp32", _PLAIN_PADDLE, streams=True),
)
PEERS = {peer.name: peer for peer in _ALL}


def build(job: Job) -> Model:
    """Load the model of a job; raises whatever its library raises."""
    return import_library(job).build(job)


def prepare(job: Job) -> None:
    """Write the files that a contender needs; raises whatever its library raises."""
    import_library(job).prepare(job)


class _Module(Protocol):
    build: Callable[[Job], Model]
    prepare: Callable[[Job], None]


def import_library(job: Job) -> _Module:
    """Import the module that drives a job's peer, and with it the library itself."""
    return import_module(job.module)


def padded(rows: Sequence[Ids]) -> tuple[Ids, Ids, Ids]:
    """input_ids, attention_mask and token_type_ids, int64 [B, T], with T the longest row; padding is 0."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    ids = np.zeros_like(mask)
    ids[mask == 1] = np.concatenate(rows)
    return ids, mask, np.zeros_like(mask)
