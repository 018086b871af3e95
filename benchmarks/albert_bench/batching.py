"""How a batch is handed to a library: whole, one row at a time, in sorted buckets, or in parallel streams.

A library that pads is fastest on rows of mixed lengths when they are sorted and cut into buckets, or given
to it one by one. Which of these wins differs between libraries, so all of them are timed.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from .peers.base import Answer, Model
from .workload import Rows, Workload

BUCKETS = (4, 8)
MAX_PADDED_ROWS = 32  # more rows of mixed lengths are never served as one padded batch


@dataclass(frozen=True, slots=True)
class Batching:
    """One way to split a batch into calls.

    Attributes:
        name: As the results call it.
        bucket: Rows per call, sorted by length; 0 gives all rows in one call, in their order.
        streams: Threads that share the calls; 0 makes the calls one after another.
    """

    name: str
    bucket: int = 0
    streams: int = 0

    def groups(self, lengths: Sequence[int]) -> list[list[int]]:
        """Row indices of each call, in the order of the calls."""
        if not self.bucket:
            return [list(range(len(lengths)))]
        order = list(range(len(lengths)))
        if self.bucket > 1:
            order.sort(key=lambda row: lengths[row])
        return [order[at : at + self.bucket] for at in range(0, len(order), self.bucket)]


WHOLE = Batching("whole")
ONE_BY_ONE = Batching("one by one", 1)


def streams(count: int) -> Batching:
    """Rows one by one, shared by ``count`` threads that use one CPU each."""
    return Batching(f"{count} streams", 1, count)


def batchings(workload: Workload, packs: bool, brief: bool = False) -> list[Batching]:
    """The batchings to time a library in, streams aside.

    Args:
        workload: The batch.
        packs: Whether the library packs rows; mixed lengths then need no special care.
        brief: Leave out the padded batch, which is never the best in the committed results, and buckets of
            8, which beat buckets of 4 by a few percent at most.
    """
    if packs or not workload.is_mixed:
        return [WHOLE]
    buckets = [Batching(f"buckets of {size}", size) for size in BUCKETS]
    if brief:
        return [ONE_BY_ONE, buckets[0]]
    whole = [WHOLE] if len(workload.lengths) <= MAX_PADDED_ROWS else []
    return [*whole, ONE_BY_ONE, *buckets]


@dataclass
class Runner:
    """Runs a model in any batching; threads for streams are started once and kept."""

    model: Model
    _pools: dict[int, ThreadPoolExecutor] = field(default_factory=dict)

    def run(self, rows: Rows, batching: Batching) -> list[tuple[list[int], Answer]]:
        """The row indices and the answer of each call. This is what gets timed."""
        groups = batching.groups([len(row) for row in rows])
        if not batching.streams:
            return [(group, self.model.run([rows[i] for i in group])) for group in groups]
        if batching.streams not in self._pools:
            self._pools[batching.streams] = ThreadPoolExecutor(batching.streams)
        answers = self._pools[batching.streams].map(
            lambda group: self.model.run([rows[i] for i in group]), groups
        )
        return list(zip(groups, answers, strict=True))


def split_rows(calls: list[tuple[list[int], Answer]], lengths: Sequence[int], per_token: str) -> list[Answer]:
    """The answer of each row, in order; padding is cut off the output named ``per_token``."""
    rows: list[Answer] = [{} for _ in lengths]
    for row, name, value in _row_values(calls):
        rows[row][name] = np.ascontiguousarray(value[: lengths[row]] if name == per_token else value)
    return rows


def _row_values(calls: list[tuple[list[int], Answer]]) -> Iterator[tuple[int, str, np.ndarray]]:
    for group, answer in calls:
        for name, values in answer.items():
            for index, row in enumerate(group):
                yield row, name, values[index]
