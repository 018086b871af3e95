"""What passes put out, brought to the host: padded, in float32, in arrays for the whole batch."""

import numpy as np
import torch

from ..backends.base import Array
from ..backends.engine_outputs import Results, ScorePlaces, Wanted, masked_logit
from ..batch.packed import Int32, PackedBatch
from .batch import GpuBatch
from .device import Device
from .forward import Buffers, Model, score_vocabulary
from .kernels.rows import scatter_rows

_MOST_SCORE_BYTES = 256 << 20
# A larger array stays where the GPU wrote it. Pages there are locked, so small ones are moved out.
_MOVED_BYTES = 1 << 20


class Collector:
    """The results of a batch. ``add`` queues copies; ``results`` is valid once they are done."""

    def __init__(
        self, device: Device, model: Model, batch: PackedBatch, wanted: Wanted, score_tokens: Int32 | None
    ) -> None:
        self._device, self._model, self._wanted = device, model, wanted
        rows, width = batch.shape
        c, labels = model.config, model.head.num_labels

        def room(wanted: bool, *shape: int) -> torch.Tensor | None:
            return device.on_host(shape, torch.float32) if wanted else None

        self._hidden = room(wanted.hidden, rows, width, c.hidden_size)
        self._states = room(wanted.states, rows, width, c.num_hidden_layers + 1, c.hidden_size)
        self._pooled = room(wanted.pooled, rows, c.hidden_size)
        self._token_logits = room(wanted.token_logits, rows, width, labels)
        self._pooled_logits = room(wanted.pooled_logits, rows, labels)
        self._places: ScorePlaces | None = None
        self._scores: Array | None = None
        if wanted.scores:
            self._places = ScorePlaces.of(batch, score_tokens)
            self._scores = self._places.room(c.vocab_size)
        self._starts = batch.row_starts

    def begin(self, part: PackedBatch, start: int, on_device: GpuBatch, buffers: Buffers) -> None:
        """Get ready for a pass over a part of the batch, whose first row is row ``start``."""
        self._first, self._end = start, start + part.shape[0]
        self._on_device, self._buffers = on_device, buffers
        cells = part.shape[0] * part.shape[1]
        if self._hidden is not None or self._states is not None or self._token_logits is not None:
            places = np.where(part.unmasked(), part.padded_indices(part.shape[1]), -1).astype(np.int32)
            self._cells = self._device.upload(places)
        if self._states is not None:
            size = self._states.shape[2] * self._states.shape[3]
            self._padded_states = torch.zeros(cells, size, dtype=torch.float32, device=self._device.torch)

    def add_state(self, layer: int, hidden: torch.Tensor) -> None:
        """Add the states [N, H] after a layer; 0 are the embeddings."""
        size = hidden.shape[1]
        columns = self._padded_states[:, layer * size : (layer + 1) * size]
        scatter_rows(hidden[: len(self._cells)], self._cells, columns, self._on_device.tokens)

    def add(self) -> None:
        """Add what the pass left in its buffers."""
        b, rows = self._buffers, slice(self._first, self._end)
        if self._states is not None:
            _copy(self._padded_states, self._states[rows])
        if self._hidden is not None:
            self._add_padded(b.hidden, self._hidden[rows], 0.0)
        if self._token_logits is not None:
            self._add_padded(b.token_logits, self._token_logits[rows], masked_logit(self._model.head))
        if self._pooled is not None:
            _copy(b.pooled[: self._end - self._first], self._pooled[rows])
        if self._pooled_logits is not None:
            _copy(b.pooled_logits[: self._end - self._first], self._pooled_logits[rows])
        if self._places is not None:
            self._add_scores(self._places)

    def results(self) -> Results:
        """Everything that was wanted, in new arrays."""
        return Results(
            hidden=_array(self._hidden),
            states=_array(self._states),
            pooled=_array(self._pooled),
            token_logits=_array(self._token_logits),
            pooled_logits=_array(self._pooled_logits),
            scores=self._scores,
        )

    def _add_padded(self, values: torch.Tensor, to: torch.Tensor, masked: float) -> None:
        """Rows [N, n] for the packed tokens, to their places in [rows, T, n]."""
        shape = (to.shape[0] * to.shape[1], to.shape[2])
        padded = torch.full(shape, masked, dtype=torch.float32, device=self._device.torch)
        scatter_rows(values[: len(self._cells)], self._cells, padded, self._on_device.tokens)
        _copy(padded, to)

    def _add_scores(self, places: ScorePlaces) -> None:
        """The vocabulary's scores of the pass's tokens, so many at a time as fit a bounded buffer."""
        assert self._scores is not None
        base, end = self._starts[self._first], self._starts[self._end]
        first, stop = (int(at) for at in np.searchsorted(places.tokens, (base, end)))
        step = max(1, _MOST_SCORE_BYTES // (4 * self._model.config.vocab_size))
        for at in range(first, stop, step):
            slots = places.slots[at : min(at + step, stop)]
            tokens = torch.from_numpy(places.tokens[at : at + len(slots)] - base).to(self._device.torch)
            count = torch.full((1,), len(slots), dtype=torch.int32, device=self._device.torch)
            scores = score_vocabulary(self._model, self._buffers.hidden, tokens, count)
            self._scores[slots] = scores.cpu().numpy()


def _copy(values: torch.Tensor, to: torch.Tensor) -> None:
    to.copy_(values.reshape(to.shape), non_blocking=True)


def _array(values: torch.Tensor | None) -> Array | None:
    if values is None:
        return None
    array: Array = values.numpy()
    return array.copy() if array.nbytes <= _MOVED_BYTES else array
