"""PackedBatch, the form in which every backend receives a batch, and what a model accepts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..artifact.config import AlbertConfig

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """The sizes that a batch must respect; None = unknown (a program without a manifest)."""

    vocab_size: int | None = None
    type_vocab_size: int | None = None
    max_position_embeddings: int | None = None
    pad_token_id: int = 0

    @classmethod
    def of(cls, config: AlbertConfig) -> "ModelLimits":
        """The limits of a known model."""
        return cls(
            config.vocab_size, config.type_vocab_size, config.max_position_embeddings, config.pad_token_id
        )


@dataclass(frozen=True)
class PackedBatch:
    """The tokens of B rows one after another, N in all, without padding.

    Attributes:
        input_ids: Token ids, int32 [N].
        positions: Each token's column in the padded array, int32 [N].
        token_type_ids: Token types, int32 [N].
        row_starts: int32 [B + 1]; row b holds the tokens ``row_starts[b]:row_starts[b + 1]``.
        masked_first: int32 [B], 1 where position 0 of a row is masked. Its token is still computed, since the
            pooler reads it, but no token attends to it and its hidden state is returned as 0.
        shape: (B, T) of the padded outputs.
        choices: C where every C rows are the choices of one question, so that the padded form is
            [B / C, C, T]; otherwise None.
    """

    input_ids: Int32
    positions: Int32
    token_type_ids: Int32
    row_starts: Int32
    masked_first: Int32
    shape: tuple[int, int]
    choices: int | None = None

    @property
    def tokens(self) -> int:
        """Number of packed tokens, N."""
        return len(self.input_ids)

    @property
    def width(self) -> int:
        """Columns up to and including the last one that holds a token; at most T."""
        return int(self.positions.max()) + 1

    def rows(self, start: int, stop: int) -> "PackedBatch":
        """Rows start to stop (not included) as a batch of its own with the same T; no token is copied."""
        first, last = self.row_starts[start], self.row_starts[stop]
        return PackedBatch(
            self.input_ids[first:last],
            self.positions[first:last],
            self.token_type_ids[first:last],
            self.row_starts[start : stop + 1] - first,
            self.masked_first[start:stop],
            (stop - start, self.shape[1]),
            self.choices,
        )

    def padded_indices(self, width: int) -> Int64:
        """Of each packed token, its place in a flattened padded array of ``width`` columns; int64 [N]."""
        return np.repeat(np.arange(self.shape[0]) * width, np.diff(self.row_starts)) + self.positions

    def unmasked(self) -> NDArray[np.bool_]:
        """Of each packed token, whether it is unmasked, so that its state is returned; bool [N]."""
        kept = np.ones(self.tokens, np.bool_)
        kept[self.row_starts[:-1][self.masked_first != 0]] = False
        return kept

    def to_padded(self, width: int | None = None) -> tuple[Int64, Int64, Int64]:
        """(input_ids, attention_mask, token_type_ids), int64 [B, width], width = T unless given.

        Masked positions hold id 0 and type 0, except position 0, which keeps its id: the pooler reads its
        state.
        """
        count = self.shape[0]
        width = self.shape[1] if width is None else width
        shape = (count, width)
        masked = self.masked_first != 0
        ids, types = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        mask = np.zeros(shape, np.int64)
        if self.tokens == count * width:
            ids.reshape(-1)[:] = self.input_ids
            types.reshape(-1)[:] = self.token_type_ids
            mask[:] = 1
        else:
            flat = self.padded_indices(width)
            ids.reshape(-1)[flat] = self.input_ids
            types.reshape(-1)[flat] = self.token_type_ids
            mask.reshape(-1)[flat] = 1
        mask[masked, 0] = 0
        return ids, mask, types


def join(batches: Sequence[PackedBatch]) -> PackedBatch:
    """The rows of several batches one after another, as wide as the widest; all have the same choices."""
    firsts = np.cumsum([0, *(batch.tokens for batch in batches[:-1])])
    starts = [batch.row_starts[:-1] + first for batch, first in zip(batches, firsts, strict=True)]
    tokens = sum(batch.tokens for batch in batches)
    return PackedBatch(
        np.concatenate([batch.input_ids for batch in batches]),
        np.concatenate([batch.positions for batch in batches]),
        np.concatenate([batch.token_type_ids for batch in batches]),
        np.concatenate([*starts, [tokens]]).astype(np.int32),
        np.concatenate([batch.masked_first for batch in batches]),
        (sum(batch.shape[0] for batch in batches), max(batch.shape[1] for batch in batches)),
        batches[0].choices,
    )
