"""The GPU engine's kernels and forward pass, on the GPU of this machine or in Triton's interpreter."""

import pytest
import torch

from albert_runtime.gpu.device import Device
from albert_runtime.gpu.kernels.launch import INTERPRETED

# The largest error of one rounding to the type, relative to the value. The interpreter cuts bfloat16 off.
ROUNDING = {
    torch.float32: 2.0**-23,
    torch.float16: 2.0**-10,
    torch.bfloat16: 2.0**-7 if INTERPRETED else 2.0**-8,
}
FLOATS = tuple(ROUNDING)


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where the kernels' tensors must be."""
    return Device().torch


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
