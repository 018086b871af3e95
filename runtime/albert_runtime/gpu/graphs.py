"""CUDA graphs of whole passes: starting the kernels is most of a short pass; a graph starts all at once."""

import threading
from collections import OrderedDict

import torch

from .batch import Capacity, GpuBatch
from .device import Device
from .forward import Buffers, Forward, Model, PassWanted

# A pass over more tokens takes longer than it takes to start its kernels.
MOST_TOKENS = 4096
_LEAST_TOKENS = 16
_MOST_GRAPHS = 32
_MOST_BYTES = 512 << 20
# Room for so many of the largest: of two, each would drive the other out and be captured every time.
_LEAST_GRAPHS = 8
_capturing = threading.Lock()  # torch allows one capture at a time in a process


class CapturedPass:
    """A pass of a fixed capacity, captured after its first run. It has a batch and buffers of its own."""

    def __init__(self, model: Model, capacity: Capacity, wanted: PassWanted, device: Device) -> None:
        self.batch = GpuBatch(capacity, device.torch)
        self.buffers = Buffers(model, capacity, device.torch)
        self._forward = Forward(model, self.buffers, self.batch)
        self._wanted, self._device = wanted, device
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        """Queue the pass on the current stream."""
        if self._graph is None:
            self._forward(self._wanted)  # compiles and loads the kernels too, which cannot be captured
            if self._device.is_gpu:
                self._graph = self._capture()
        else:
            self._graph.replay()

    def _capture(self) -> torch.cuda.CUDAGraph:
        """The pass as a graph; nothing runs.

        ``torch.cuda.graph`` waits for the whole GPU, which is an error while another thread captures, and
        empty torch's caches. A pass allocates nothing, so it needs neither.
        """
        graph = torch.cuda.CUDAGraph()
        with _capturing, torch.cuda.stream(self._device.capture_stream):
            graph.capture_begin(capture_error_mode="thread_local")  # other threads may use the GPU meanwhile
            try:
                self._forward(self._wanted)
            finally:
                graph.capture_end()
        return graph


class Graphs:
    """The captured passes of a model, those used last: at most 32, and 512 MB of buffers."""

    def __init__(self, model: Model, device: Device) -> None:
        self._model, self._device = model, device
        self._passes: OrderedDict[tuple[Capacity, PassWanted], CapturedPass] = OrderedDict()

    def get(self, needed: Capacity, wanted: PassWanted) -> CapturedPass | None:
        """A pass with room for a batch, made when first asked for; None if a graph would not pay or fit."""
        capacity = bucket(needed)
        size = self._bytes(capacity)
        if capacity.tokens > MOST_TOKENS or size > _MOST_BYTES // _LEAST_GRAPHS:
            return None
        key = (capacity, wanted)
        if key not in self._passes:
            while self._passes and (
                len(self._passes) >= _MOST_GRAPHS
                or size + sum(self._bytes(held) for held, _ in self._passes) > _MOST_BYTES
            ):
                self._passes.popitem(last=False)
            self._passes[key] = CapturedPass(self._model, capacity, wanted, self._device)
        self._passes.move_to_end(key)
        return self._passes[key]

    def clear(self) -> None:
        """Forget all graphs and free their buffers."""
        self._passes.clear()

    def __len__(self) -> int:
        return len(self._passes)

    def _bytes(self, capacity: Capacity) -> int:
        return capacity.tokens * self._model.bytes_per_token()


def bucket(needed: Capacity) -> Capacity:
    """What the graph for a batch has room for: powers of two. Programs with nothing to do end at once."""
    tokens = max(_LEAST_TOKENS, 1 << (needed.tokens - 1).bit_length())
    return Capacity(tokens, min(tokens, 1 << (needed.blocks - 1).bit_length()))
