"""Figures of many rounds: what counts is the ratio within a round, since a shared machine drifts."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some values, and their 10th and 90th percentile."""

    median: float
    p10: float
    p90: float

    def to_dict(self) -> dict[str, float]:
        """Ready for JSON."""
        return asdict(self)


def spread(values: Sequence[float]) -> Spread:
    """Median, p10 and p90 of at least one value."""
    p10, middle, p90 = np.percentile(np.asarray(values, float), [10, 50, 90])
    return Spread(float(middle), float(p10), float(p90))


def ratios(ours: dict[int, float], theirs: dict[int, float]) -> Spread | None:
    """theirs / ours, by round, over the rounds in which both took their turn; None if there are none."""
    shared = sorted(ours.keys() & theirs.keys())
    return spread([theirs[number] / ours[number] for number in shared]) if shared else None
