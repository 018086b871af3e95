"""A model on the GPU: cuts a batch into passes, runs them, brings what was asked for to the host."""

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from ..artifact.manifest import Manifest
from ..backends.engine_outputs import Results, Wanted
from ..batch.checks import validate_ids
from ..batch.packed import Int32, PackedBatch
from .batch import Capacity, GpuBatch, write
from .device import Device
from .forward import NOTHING_BAD, Buffers, Forward, Model, PassWanted
from .graphs import Graphs
from .numbers import PRECISIONS
from .results import Collector
from .weights import Weights

# Of one pass: tokens, buffers, padded outputs.
_MOST_TOKENS = 65536
_MOST_BYTES = 2 << 30
_MOST_PADDED_BYTES = 1 << 30


class GpuEngine:
    """Runs packed batches. Any number of threads may call it; passes are queued one after another."""

    def __init__(self, weights_file: Path, manifest: Manifest, precision: str) -> None:
        """Read the weights; torch.OutOfMemoryError if they do not fit."""
        self.device = Device()
        numbers = PRECISIONS[precision]
        with self.device.queueing():
            weights = Weights.load(weights_file, manifest, numbers, self.device.torch)
        self.device.synchronize()
        self.model = Model(manifest.config, manifest.head, numbers, weights)
        self.graphs = Graphs(self.model, self.device)
        self._lock = threading.Lock()

    def run(
        self,
        batch: PackedBatch,
        wanted: Wanted,
        score_tokens: Int32 | None = None,
        on_gpu: Mapping[str, torch.Tensor] | None = None,
    ) -> Results:
        """Run a batch.

        Args:
            batch: The rows.
            wanted: What to compute.
            score_tokens: See Backend.run.
            on_gpu: input_ids and perhaps token_type_ids [B, T] on the GPU, in place of the batch's. Their
                values are checked there: InputError names the first one out of range.
        """
        with self._lock, self.device.queueing():
            collector = Collector(self.device, self.model, batch, wanted, score_tokens)
            first_bad = {
                start: self._pass(batch.rows(start, stop), start, wanted, collector, on_gpu)
                for start, stop in self._passes(batch, wanted)
            }
            self.device.synchronize()
            if on_gpu is not None:
                self._check_ids(batch, on_gpu, first_bad)
            return collector.results()

    def forget_graphs(self) -> None:
        """Free what graphs hold, once no other thread is using one."""
        with self._lock:
            self.graphs.clear()

    def _passes(self, batch: PackedBatch, wanted: Wanted) -> Iterator[tuple[int, int]]:
        """(first row, end row) of each pass."""
        most = max(1, min(_MOST_TOKENS, _MOST_BYTES // self.model.bytes_per_token()))
        columns = wanted.hidden + wanted.states * (self.model.config.num_hidden_layers + 1)
        row_bytes = 4 * batch.shape[1] * columns * self.model.config.hidden_size
        most_rows = max(1, _MOST_PADDED_BYTES // row_bytes) if row_bytes else batch.shape[0]
        start, starts = 0, batch.row_starts
        while start < batch.shape[0]:
            fitting = int(np.searchsorted(starts, starts[start] + most, "right")) - 1
            stop = min(max(fitting, start + 1), start + most_rows)
            yield start, stop
            start = stop

    def _pass(
        self,
        part: PackedBatch,
        start: int,
        wanted: Wanted,
        collector: Collector,
        on_gpu: Mapping[str, torch.Tensor] | None,
    ) -> torch.Tensor | None:
        """Queue one pass; its ``first_bad``, on the host once all is done, if the ids are on the GPU."""
        needed = Capacity.of(part)
        asked = PassWanted(
            wanted.hidden or wanted.states or wanted.scores,
            wanted.token_logits,
            wanted.pooled,
            wanted.pooled_logits,
        )
        captured = None if wanted.states else self.graphs.get(needed, asked)
        if captured is not None:
            on_device, buffers = captured.batch, captured.buffers
        else:
            on_device = GpuBatch(needed, self.device.torch)
            buffers = Buffers(self.model, needed, self.device.torch)
        self._upload(part, start, on_device, on_gpu)
        collector.begin(part, start, on_device, buffers)
        if captured is not None:
            captured()
        else:
            Forward(self.model, buffers, on_device)(asked, collector.add_state if wanted.states else None)
        collector.add()
        if on_gpu is None:  # whoever packed has checked the ids
            return None
        first_bad = self.device.on_host((1,), torch.int32)
        return first_bad.copy_(buffers.first_bad, non_blocking=True)

    def _upload(
        self, part: PackedBatch, start: int, to: GpuBatch, on_gpu: Mapping[str, torch.Tensor] | None
    ) -> None:
        block = self.device.on_host((to.capacity.integers,), torch.int32)
        write(part, to.capacity, block.numpy())
        to.block.copy_(block, non_blocking=True)
        if on_gpu is None:
            return
        cells = self.device.upload(part.padded_indices(part.shape[1]))
        for name, target in (("input_ids", to.input_ids), ("token_type_ids", to.token_type_ids)):
            if name in on_gpu:
                rows = on_gpu[name][start : start + part.shape[0]].reshape(-1)
                # What an int32 cannot hold must not become a good id.
                ids = rows.index_select(0, cells).clamp(-1, NOTHING_BAD)
                target[: part.tokens].copy_(ids)

    def _check_ids(
        self,
        batch: PackedBatch,
        on_gpu: Mapping[str, torch.Tensor],
        first_bad: Mapping[int, torch.Tensor | None],
    ) -> None:
        """InputError for the first token of a pass, by its first row, that was found to be out of range."""
        for start, found in first_bad.items():
            if found is not None and int(found) != NOTHING_BAD:
                token = int(batch.row_starts[start]) + int(found)
                row = int(np.searchsorted(batch.row_starts, token, "right")) - 1
                self._check_id(on_gpu, row, int(batch.positions[token]))

    def _check_id(self, on_gpu: Mapping[str, torch.Tensor], row: int, column: int) -> None:
        config = self.model.config
        limits = {"input_ids": config.vocab_size, "token_type_ids": config.type_vocab_size}
        for name, ids in on_gpu.items():
            value = ids[row, column].reshape(1).cpu().numpy()
            validate_ids(name, value, limits[name], lambda _: (row, column))
