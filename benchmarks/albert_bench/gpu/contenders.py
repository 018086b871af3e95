"""Who takes part in the measurements on a GPU, and the reasons of those who cannot."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from albert_runtime import AlbertError, Predictor
from albert_runtime.artifact import Artifact

from ..output import log
from ..peers.base import ENGINE, POOLED, Answer
from ..seeded import seeded_artifact
from ..workload import Rows, Workload
from .cases import SDPA, Call, Case

_TORCH_PRECISION = "bf16"
_MAX_ROWS = 256
# Artifact, and what its products are there. fp32 first: where it fails, no other artifact need be written.
_ONNXRUNTIME = (("fp32", "tf32"), ("fp16", "fp16"), ("int8", "int8"))


@dataclass(frozen=True)
class GpuContender:
    """A library in one precision.

    Attributes:
        name: Library and precision.
        precision: The one whose matrix rate it is compared with.
        batchings: The ways to run a workload, by name; the fastest counts.
    """

    name: str
    precision: str
    batchings: Callable[[Workload], dict[str, Call]]

    @property
    def is_engine(self) -> bool:
        """Whether it is the engine, and not a peer."""
        return self.name.startswith(ENGINE)


def engine_name(precision: str) -> str:
    """The engine's name in tables, in one precision."""
    return f"{ENGINE} {precision}"


def start(case: Case, models: Path, device: str) -> tuple[list[GpuContender], dict[str, str]]:
    """Load the contenders of a case.

    Args:
        case: What is measured.
        models: Folder for the artifacts.
        device: Where torch runs: cuda, or cpu to see that everything works.

    Returns:
        The contenders, the engine first, and the reason for each that cannot take part.
    """
    contenders: list[GpuContender] = []
    absent: dict[str, str] = {}

    def add(name: str, load: Callable[[], GpuContender]) -> bool:
        log(f"{case.variant}, {name}: starting")
        try:
            contenders.append(load())
        except (AlbertError, ImportError, RuntimeError) as error:
            absent[name] = " ".join(str(error).split())
            log(f"{name} is left out: {absent[name]}")
        return name not in absent

    path = seeded_artifact(models, case.variant)
    for precision in case.precisions:
        name = engine_name(precision)
        add(name, lambda: _predictor(name, path, "gpu", precision, precision))  # noqa: B023  (called at once)
    for kind in case.torch:
        name = f"{kind} {_TORCH_PRECISION}"
        add(name, lambda: _torch(name, path, kind, device))  # noqa: B023
    for backend in ("cuda", "tensorrt") if case.with_onnxruntime else ():
        for stored, multiplied in _ONNXRUNTIME:
            name = f"{backend} {stored}"

            def load() -> GpuContender:
                artifact = seeded_artifact(models, case.variant, stored)  # noqa: B023
                return _predictor(name, artifact, backend, "auto", multiplied)  # noqa: B023

            if not add(name, load):
                break
    return contenders, absent


def _predictor(name: str, path: Path, backend: str, precision: str, multiplied: str) -> GpuContender:
    predictor = Predictor(path, backend=backend, precision=precision, max_batch=_MAX_ROWS)

    def call(rows: Rows, pooled_only: bool) -> Answer:
        return predictor.run(rows, outputs=[POOLED] if pooled_only else None)

    return GpuContender(name, multiplied, lambda workload: {"whole": call})


def _torch(name: str, path: Path, kind: str, device: str) -> GpuContender:
    import torch  # noqa: PLC0415  (slow to import, and may be missing)

    from ..peers.torch_packed import PackedEncoder  # noqa: PLC0415
    from ..peers.torch_peer import Encoder, read_tensors  # noqa: PLC0415
    from .torch_contenders import PackedTorch, PaddedTorch  # noqa: PLC0415

    artifact = Artifact.open(path)
    assert artifact.manifest is not None
    tensors = {key: values.to(device) for key, values in read_tensors(artifact, torch.bfloat16).items()}
    # To compile for a CPU takes a minute and shows nothing.
    config, compiled = artifact.manifest.config, device == "cuda"
    contender: PaddedTorch | PackedTorch
    if kind == SDPA:
        contender = PaddedTorch(Encoder(config, tensors, compiled), device)
    else:
        contender = PackedTorch(PackedEncoder(config, tensors, compiled), device)
    return GpuContender(name, _TORCH_PRECISION, contender.batchings)
