"""A packed batch on the GPU: one block of integers, so that one copy brings all of it."""

from dataclasses import dataclass

import numpy as np
import torch

from ..batch.packed import Int32, PackedBatch
from .kernels.attention import QUERIES, Rows

_ALIGNED = 4  # integers, 16 bytes: a kernel reads whole words where an array begins at one


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many tokens and blocks of queries there is room for; there is room for as many rows as blocks."""

    tokens: int
    blocks: int

    @classmethod
    def of(cls, batch: PackedBatch) -> "Capacity":
        """What a batch needs: a row has a block for every ``QUERIES`` queries."""
        return cls(batch.tokens, int(_blocks_of_rows(batch).sum()))

    def parts(self) -> dict[str, int]:
        """The arrays of a batch in order, and how many integers each has."""
        tokens, blocks = self.tokens, self.blocks
        return {
            "counts": 3,  # tokens, rows and blocks in use
            "input_ids": tokens,
            "positions": tokens,
            "token_type_ids": tokens,
            "row_starts": blocks + 1,
            "masked_first": blocks,
            "blocks": 2 * blocks,
        }

    def slices(self) -> dict[str, slice]:
        """Where the parts lie in the block."""
        result, at = {}, 0
        for name, size in self.parts().items():
            result[name] = slice(at, at + size)
            at += -(-size // _ALIGNED) * _ALIGNED
        return result

    @property
    def integers(self) -> int:
        """The size of the block."""
        return int(self.slices()["blocks"].stop)


class GpuBatch:
    """Room for a batch on the GPU, and its arrays, which kernels read.

    Attributes:
        capacity: What there is room for.
        block: int32; all the arrays.
        input_ids: int32 [tokens], as are ``positions`` and ``token_type_ids``.
        tokens: int32 [1]; how many tokens there are.
        rows: The rows and how many there are.
    """

    def __init__(self, capacity: Capacity, device: torch.device) -> None:
        self.capacity = capacity
        self.block = torch.empty(capacity.integers, dtype=torch.int32, device=device)
        parts = {name: self.block[where] for name, where in capacity.slices().items()}
        self.input_ids = parts["input_ids"]
        self.positions = parts["positions"]
        self.token_type_ids = parts["token_type_ids"]
        self.tokens, rows, blocks = parts["counts"].split(1)
        self.rows = Rows(
            parts["row_starts"], parts["masked_first"], rows, parts["blocks"].reshape(-1, 2), blocks
        )


def write(batch: PackedBatch, capacity: Capacity, block: Int32) -> None:
    """Write a batch to the CPU's copy of a block."""
    where = capacity.slices()
    per_row = _blocks_of_rows(batch)
    rows, blocks = len(per_row), int(per_row.sum())
    queries = np.zeros((blocks, 2), np.int32)
    if rows == blocks:  # no row is longer than a block
        queries[:, 0] = np.arange(rows)
    else:
        first = np.repeat(np.cumsum(per_row) - per_row, per_row)
        queries[:, 0] = np.repeat(np.arange(rows), per_row)
        queries[:, 1] = (np.arange(blocks) - first) * QUERIES
    parts = {
        "counts": np.array([batch.tokens, rows, blocks]),
        "input_ids": batch.input_ids,
        "positions": batch.positions,
        "token_type_ids": batch.token_type_ids,
        "row_starts": batch.row_starts,
        "masked_first": batch.masked_first,
        "blocks": queries.reshape(-1),
    }
    for name, values in parts.items():
        start = where[name].start
        block[start : start + len(values)] = values


def _blocks_of_rows(batch: PackedBatch) -> Int32:
    return -(-np.diff(batch.row_starts) // QUERIES)
