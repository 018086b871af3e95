"""Statistics over rounds. Times are compared within a round, because a shared machine drifts."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Spread:
    """The median, 10th and 90th percentile of some values."""

    median: float
    p10: float
    p90: float

    def to_dict(self) -> dict[str, float]:
        """Ready for JSON."""
        return asdict(self)


def spread(values: Sequence[float]) -> Spread:
    """The spread of one value or more."""
    p10, middle, p90 = np.percentile(np.asarray(values, float), [10, 50, 90])
    return Spread(float(middle), float(p10), float(p90))


def ratios(ours: dict[int, float], theirs: dict[int, float]) -> Spread | None:
    """The spread of theirs / ours over the rounds that both were timed in; None if there are none."""
    shared = sorted(ours.keys() & theirs.keys())
    return spread([theirs[number] / ours[number] for number in shared]) if shared else None
