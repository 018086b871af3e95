"""Torch on the GPU: padded with SDPA, whole, in buckets or as a CUDA graph; packed with varlen attention."""

import numpy as np
import torch
from torch import Tensor

from ..batching import Batching
from ..peers.base import HIDDEN, POOLED, Answer, padded
from ..peers.torch_packed import PackedEncoder
from ..peers.torch_peer import Encoder
from ..workload import Rows, Workload
from .cases import Call

_BUCKETS = (16, 32, 64)
_RUNS_BEFORE_CAPTURE = 3  # as torch's documentation of CUDA graphs asks


class PaddedTorch:
    """The encoder of the CPU benchmark; one layer is compiled, for inputs of any shape."""

    def __init__(self, encoder: Encoder, device: str) -> None:
        self._encoder, self._device = encoder, device
        self._graphs: dict[tuple[int, int], tuple[Tensor, torch.cuda.CUDAGraph, tuple[Tensor, Tensor]]] = {}

    def batchings(self, workload: Workload) -> dict[str, Call]:
        """The ways to run a workload, of which the fastest counts."""
        batchings: dict[str, Call] = {"whole": self._whole}
        if workload.is_mixed:
            batchings |= {f"buckets of {size}": self._in_buckets(size) for size in _BUCKETS}
        elif self._device == "cuda":
            batchings["graph"] = self._graphed
        return batchings

    def _whole(self, rows: Rows, pooled_only: bool) -> Answer:
        return _to_host(*self._forward(rows), pooled_only)

    def _in_buckets(self, size: int) -> Call:
        batching = Batching("", size)

        def call(rows: Rows, pooled_only: bool) -> Answer:
            """All buckets are queued before the first result is awaited; for pooled outputs."""
            groups = batching.groups([len(row) for row in rows])
            pooled = torch.cat([self._forward([rows[i] for i in group])[1] for group in groups])
            answer = _to_host(pooled, pooled, True)
            order = np.concatenate(groups)
            return {POOLED: answer[POOLED][np.argsort(order)]}

        return call

    def _forward(self, rows: Rows) -> tuple[Tensor, Tensor]:
        ids, mask, _ = padded(rows)
        whole = bool(mask.all())
        with torch.no_grad():
            given = None if whole else torch.from_numpy(mask).to(self._device)
            hidden, pooled = self._encoder(torch.from_numpy(ids).to(self._device), given)
        return hidden, pooled

    def _graphed(self, rows: Rows, pooled_only: bool) -> Answer:
        """Rows of one length: the launches are recorded once for each shape, then replayed at once."""
        ids = torch.from_numpy(np.stack(rows))
        shape = (len(rows), len(rows[0]))
        if shape not in self._graphs:
            self._graphs[shape] = self._captured(ids.to(self._device))
        given, graph, results = self._graphs[shape]
        given.copy_(ids)
        graph.replay()
        return _to_host(*results, pooled_only)

    def _captured(self, ids: Tensor) -> tuple[Tensor, "torch.cuda.CUDAGraph", tuple[Tensor, Tensor]]:
        with torch.no_grad():
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(_RUNS_BEFORE_CAPTURE):
                    self._encoder(ids, None)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                results = self._encoder(ids, None)
        return ids, graph, results


class PackedTorch:
    """Packed tokens; the pooled rows are put back in order."""

    def __init__(self, encoder: PackedEncoder, device: str) -> None:
        self._encoder, self._device = encoder, device

    def batchings(self, workload: Workload) -> dict[str, Call]:
        """The ways to run a workload, of which the fastest counts."""
        batchings: dict[str, Call] = {"whole": self._whole}
        if workload.is_mixed:
            batchings["sorted"] = self._sorted
        return batchings

    def _whole(self, rows: Rows, pooled_only: bool) -> Answer:
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        bounds = np.concatenate([[0], np.cumsum(lengths)])
        positions = np.arange(bounds[-1]) - np.repeat(bounds[:-1], lengths)
        with torch.no_grad():
            ids, at, where = (
                torch.from_numpy(values).to(self._device)
                for values in (np.concatenate(rows), positions, bounds.astype(np.int32))
            )
            hidden, pooled = self._encoder.packed(ids, at, (where, int(lengths.max())))
            if not pooled_only:
                spread = hidden.new_zeros(len(rows), int(lengths.max()), hidden.shape[1])
                row = torch.from_numpy(np.repeat(np.arange(len(rows)), lengths)).to(self._device)
                spread[row, at] = hidden
                hidden = spread
        return _to_host(hidden, pooled, pooled_only)

    def _sorted(self, rows: Rows, pooled_only: bool) -> Answer:
        """The longest rows first, so that a long one does not begin when all else is done."""
        order = sorted(range(len(rows)), key=lambda row: -len(rows[row]))
        answer = self._whole([rows[i] for i in order], pooled_only)
        back = np.argsort(order)
        return {name: values[back] for name, values in answer.items()}


def _to_host(hidden: Tensor, pooled: Tensor, pooled_only: bool) -> Answer:
    wanted = {POOLED: pooled} if pooled_only else {HIDDEN: hidden, POOLED: pooled}
    return {name: values.float().cpu().numpy() for name, values in wanted.items()}
