"""Compiles, for a GPU that need not be there, every kernel that a model's passes would start.

    python compile_kernels.py CAPABILITY MANIFEST PRECISION...

Prints a JSON list with what each kernel needs. A process of its own: what interprets kernels compiles none.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from albert_runtime.artifact.artifact import Artifact
from albert_runtime.gpu.batch import Capacity, GpuBatch
from albert_runtime.gpu.forward import Buffers, Forward, Model, PassWanted, score_vocabulary
from albert_runtime.gpu.kernels.attention import attention
from albert_runtime.gpu.kernels.launch import INTERPRETED
from albert_runtime.gpu.kernels.rows import scatter_rows
from albert_runtime.gpu.numbers import PRECISIONS
from albert_runtime.gpu.weights import Weights

CPU = torch.device("cpu")
TOOL = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


class Driver:
    """As much of a GPU's driver as compiling asks for."""

    def __init__(self, capability):
        self._target = GPUTarget("cuda", capability, 32)

    def get_current_target(self):
        return self._target

    def get_current_device(self):
        return 0

    def get_current_stream(self, device=0):
        return 0

    def get_active_torch_device(self):
        return CPU


def resources(kernel):
    """Registers of a thread, bytes of them that were spilled, and shared memory of a compiled kernel."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        text = subprocess.run(
            [TOOL, "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    registers, spilled = re.search(r"REG:(\d+) STACK:(\d+)", text).groups()
    return {
        "kernel": kernel.metadata.name,
        "registers": int(registers),
        "spilled": int(spilled),
        "shared": kernel.metadata.shared,
        "tensor_cores": re.search(r"wgmma|tcgen05|mma\.sync", kernel.asm["ptx"]) is not None,
    }


def start_all(artifact, precision):
    """Start every kernel of the passes over a model's batches."""
    manifest, numbers = artifact.manifest, PRECISIONS[precision]
    model = Model(
        manifest.config,
        manifest.head,
        numbers,
        Weights.load(artifact.files["weights"], manifest, numbers, CPU),
    )
    batch = GpuBatch(Capacity(64, 4), CPU)
    buffers = Buffers(model, batch.capacity, CPU)
    pooled = model.head.reads_pooled
    Forward(model, buffers, batch)(
        PassWanted(tokens=False, token_logits=False, pooled=pooled, pooled_logits=pooled)
    )
    Forward(model, buffers, batch)(
        PassWanted(tokens=True, token_logits=False, pooled=False, pooled_logits=False)
    )
    score_vocabulary(model, buffers.hidden, batch.input_ids, batch.tokens)
    padded = torch.empty(64, model.config.hidden_size)
    scatter_rows(buffers.hidden, batch.input_ids, padded, batch.tokens)


def start_attention(precision):
    """Start attention for heads of every size class."""
    numbers = PRECISIONS[precision]
    rows = GpuBatch(Capacity(64, 4), CPU).rows
    for columns in (26, 32, 64, 80, 128, 256):
        x = torch.empty(64, columns, dtype=numbers.activations)
        attention(x, x, x, torch.empty_like(x), 1, rows, tf32=numbers.tf32)


def main(capability, manifest, *precisions):
    assert not INTERPRETED
    triton.runtime.driver.set_active(Driver(int(capability)))
    compiled = {}

    def start(kernel, grid):
        def compile(*arguments, **options):
            made = kernel.warmup(*arguments, grid=grid, **options)
            compiled[made.hash] = made

        return compile

    JITFunction.__getitem__ = start
    for precision in precisions:
        start_all(Artifact.open(manifest), precision)
        start_attention(precision)
    print(json.dumps([resources(kernel) for kernel in compiled.values()]))


if __name__ == "__main__":
    main(*sys.argv[1:])
