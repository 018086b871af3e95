"""The forms in which a batch may be given to a library: whole, row by row, in sorted buckets, in streams.

A library that pads does best on rows of mixed lengths when they are sorted and cut into buckets, or given one
by one; which of these is its best differs between libraries, so all of them are timed.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from .peers.base import Answer, Model
from .workload import Rows, Work

BUCKETS = (4, 8)
PADDED_ROWS = 32  # more mixed rows than these are not padded to one batch: nobody would serve them so


@dataclass(frozen=True, slots=True)
class Form:
    """Runs of ``bucket`` rows sorted by length (0: of all rows as they are), dealt to ``streams`` threads."""

    name: str
    bucket: int = 0
    streams: int = 0

    def groups(self, lengths: Sequence[int]) -> list[list[int]]:
        """Indices of the rows of every run, in the order in which they run."""
        if not self.bucket:
            return [list(range(len(lengths)))]
        order = list(range(len(lengths)))
        if self.bucket > 1:
            order.sort(key=lambda row: lengths[row])
        return [order[at : at + self.bucket] for at in range(0, len(order), self.bucket)]


WHOLE = Form("whole")
SINGLY = Form("one by one", 1)


def streams(count: int) -> Form:
    """Rows one by one, dealt in order to ``count`` threads of which each runs on one CPU."""
    return Form(f"{count} streams", 1, count)


def forms(work: Work, packs: bool, brief: bool = False) -> list[Form]:
    """What a library is timed in besides streams; one that packs needs no help with mixed lengths.

    ``brief`` leaves out the padded batch, which is nobody's best in the committed results, and the buckets of
    8, which are better than those of 4 by a few percent where they are.
    """
    if packs or not work.is_mixed:
        return [WHOLE]
    buckets = [Form(f"buckets of {size}", size) for size in BUCKETS]
    if brief:
        return [SINGLY, buckets[0]]
    whole = [WHOLE] if len(work.lengths) <= PADDED_ROWS else []
    return [*whole, SINGLY, *buckets]


@dataclass
class Runner:
    """Runs a model in any form; threads for streams are started once and kept."""

    model: Model
    _pools: dict[int, ThreadPoolExecutor] = field(default_factory=dict)

    def run(self, rows: Rows, form: Form) -> list[tuple[list[int], Answer]]:
        """For every run the indices of its rows and its answer; what a caller of the library would time."""
        groups = form.groups([len(row) for row in rows])
        if not form.streams:
            return [(group, self.model.run([rows[i] for i in group])) for group in groups]
        if form.streams not in self._pools:
            self._pools[form.streams] = ThreadPoolExecutor(form.streams)
        answers = self._pools[form.streams].map(
            lambda group: self.model.run([rows[i] for i in group]), groups
        )
        return list(zip(groups, answers, strict=True))


def by_row(runs: list[tuple[list[int], Answer]], lengths: Sequence[int], per_token: str) -> list[Answer]:
    """Answers of single rows in their order: padding is cut off the output ``per_token``."""
    rows: list[Answer] = [{} for _ in lengths]
    for row, name, value in _cells(runs):
        rows[row][name] = np.ascontiguousarray(value[: lengths[row]] if name == per_token else value)
    return rows


def _cells(runs: list[tuple[list[int], Answer]]) -> Iterator[tuple[int, str, np.ndarray]]:
    for group, answer in runs:
        for name, values in answer.items():
            for place, row in enumerate(group):
                yield row, name, values[place]
