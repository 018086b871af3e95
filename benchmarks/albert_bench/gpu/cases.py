"""What is measured: models, workloads and contenders; and on a tiny model, to see that all of it runs."""

from collections.abc import Callable
from dataclasses import dataclass

from ..peers.base import Answer
from ..seeded import TINY
from ..workload import Rows, Workload, mixed, uniform

# Runs rows; True asks for the pooled output alone.
Call = Callable[[Rows, bool], Answer]

BASE, LARGEST = "albert-base-v2", "albert-xxlarge-v2"
ENGINE_PRECISIONS = ("bf16", "fp16", "int8", "tf32", "fp32")
SDPA, VARLEN = "torch sdpa", "torch varlen"


@dataclass(frozen=True, slots=True)
class Work:
    """A workload and what is asked of it: the pooled output, or all outputs."""

    workload: Workload
    pooled_only: bool = True

    @property
    def name(self) -> str:
        """As the results call it."""
        return self.workload.name if self.pooled_only else f"{self.workload.name}, all outputs"


@dataclass(frozen=True, slots=True)
class Case:
    """A model with seeded weights, and what runs on it.

    Attributes:
        variant: The model.
        work: What is asked.
        precisions: Those of the engine; the first is the one that others are compared with.
        torch: Which of torch's contenders take part, in bfloat16.
        with_onnxruntime: Whether ONNX Runtime on CUDA and TensorRT takes part.
    """

    variant: str
    work: tuple[Work, ...]
    precisions: tuple[str, ...]
    torch: tuple[str, ...]
    with_onnxruntime: bool = False


ONE_REQUEST = Work(uniform(1, 16))
LARGE_BATCH = Work(uniform(256, 128))
MIXED_BATCH = Work(mixed(256))
# What has a target comes first: whoever stops the command early has at least that.
FULL = (
    Case(LARGEST, (LARGE_BATCH, Work(uniform(32, 128))), ("bf16",), (SDPA,)),
    Case(
        BASE,
        (
            ONE_REQUEST,
            LARGE_BATCH,
            MIXED_BATCH,
            Work(uniform(1, 128)),
            Work(uniform(32, 128)),
            Work(uniform(32, 512)),
            Work(uniform(256, 128), pooled_only=False),
        ),
        ENGINE_PRECISIONS,
        (SDPA, VARLEN),
        with_onnxruntime=True,
    ),
)
SHORT = (
    Case(
        TINY,
        (Work(uniform(1, 4)), Work(mixed(3, 8)), Work(uniform(2, 8), pooled_only=False)),
        ("bf16", "int8"),
        (SDPA, VARLEN),
        with_onnxruntime=True,
    ),
)
