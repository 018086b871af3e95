"""One forward pass for a profiler: python -m albert_bench.gpu.forward ARTIFACT."""

import sys

import torch

from albert_runtime import Predictor
from albert_runtime.artifact import Artifact

from ..peers.base import POOLED
from .cases import LARGE_BATCH

_WARM_UP = 2


def main() -> None:
    """Run the batch of 256x128 in bf16 several times; the profiler is asked to look at the last."""
    path = sys.argv[1]
    manifest = Artifact.open(path).manifest
    assert manifest is not None
    predictor = Predictor(path, backend="gpu", precision="bf16")
    batch = predictor.pack(LARGE_BATCH.workload.rows(manifest.config))
    for _ in range(_WARM_UP):  # compiles
        predictor.run(batch, outputs=[POOLED])
    torch.cuda.synchronize()
    torch.cuda.profiler.start()
    predictor.run(batch, outputs=[POOLED])
    torch.cuda.synchronize()
    torch.cuda.profiler.stop()


if __name__ == "__main__":
    main()
