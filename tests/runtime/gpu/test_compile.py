"""Every kernel, compiled by Triton's own compiler for GPUs that are not here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import write_artifact

# Shared memory that one program may have, and none of these needs more registers than there are.
SHARED = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
# Bytes of a thread's registers that go through memory. Most kernels have none; the most have tf32 attention
# with heads of 256 columns (80, compute capability 9.0) and xxlarge's residuals (56, 10.0).
SPILLED = 80

BASE = {
    "vocab_size": 1000,
    "embedding_size": 128,
    "hidden_size": 768,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "num_hidden_layers": 2,
}
# name -> (sizes, precisions); those but the first take minutes.
MODELS = {
    "base": (BASE, ("bf16", "fp32", "int8")),
    "base-others": (BASE, ("fp16", "tf32")),
    "tiny": (BASE | {"hidden_size": 312, "intermediate_size": 1248}, ("bf16", "fp32", "int8")),
    "xxlarge": (
        BASE | {"hidden_size": 4096, "num_attention_heads": 64, "intermediate_size": 16384},
        ("bf16", "int8"),
    ),
}


@pytest.mark.parametrize("capability", SHARED)
@pytest.mark.parametrize(
    "model", ["base", *(pytest.param(name, marks=pytest.mark.slow) for name in list(MODELS)[1:])]
)
def test_kernels_fit(tmp_path, model, capability):
    sizes, precisions = MODELS[model]
    manifest = write_artifact(tmp_path, task="pretraining", hidden_act="gelu", **sizes)
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path / "cache")
    script = Path(__file__).with_name("compile_kernels.py")
    found = subprocess.run(
        [sys.executable, script, str(capability), manifest, *precisions],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert found.returncode == 0, found.stderr[-2000:]
    kernels = json.loads(found.stdout)
    names = {kernel["kernel"] for kernel in kernels}
    rows = {"embed_kernel", "layer_norm_kernel", "copy_rows_kernel"}
    assert names >= rows | {"linear_kernel", "attention_kernel"}
    assert ("quantize_rows_kernel" in names) == ("int8" in precisions)
    for kernel in kernels:
        assert kernel["shared"] <= SHARED[capability], kernel
        assert kernel["registers"] <= 255 and kernel["spilled"] <= SPILLED, kernel
    assert any(kernel["tensor_cores"] for kernel in kernels)
