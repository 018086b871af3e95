"""Where kernels run: the first visible GPU, or in tests the CPU, in Triton's interpreter."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from numpy.typing import NDArray

from .kernels.launch import INTERPRETED


class Device:
    """A GPU with a stream of its own, on which all work of an engine is queued in order."""

    def __init__(self) -> None:
        self.is_gpu = not INTERPRETED
        self.torch = torch.device("cuda:0" if self.is_gpu else "cpu")
        self.stream = torch.cuda.Stream(self.torch) if self.is_gpu else None
        # Graphs are captured on another one: what other threads record on the first meanwhile, as torch does
        # where pinned memory is freed, must stay out of them.
        self.capture_stream = torch.cuda.Stream(self.torch) if self.is_gpu else None

    @contextmanager
    def queueing(self) -> Iterator[None]:
        """Whatever is started inside is queued on this device's stream, and keeps no gradients."""
        with torch.no_grad(), torch.cuda.stream(self.stream):
            yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        """As ``queueing``, after all that the caller has queued on torch's current stream.

        Tensors of torch that are taken over by DLPack inside would wait for this device's stream alone.
        """
        if self.stream is not None:
            self.stream.wait_stream(torch.cuda.current_stream(self.torch))
        with self.queueing():
            yield

    def synchronize(self) -> None:
        """Wait until all that is queued is done."""
        if self.stream is not None:
            self.stream.synchronize()

    def on_host(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """A new tensor in the host's memory that copies to and from the GPU need not stage."""
        return torch.empty(shape, dtype=dtype, pin_memory=self.is_gpu)

    def upload(self, values: NDArray[Any]) -> torch.Tensor:
        """A copy on the GPU; it is queued, so that the host goes on."""
        source = torch.from_numpy(values)
        host = self.on_host(tuple(source.shape), source.dtype)
        return host.copy_(source).to(self.torch, non_blocking=True)
