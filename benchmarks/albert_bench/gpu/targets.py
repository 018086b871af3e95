"""What the engine shall reach on an H100 or H200 in bfloat16, and what it did reach."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..peers.base import ENGINE
from .cases import BASE, LARGE_BATCH, LARGEST, MIXED_BATCH, ONE_REQUEST, Work
from .contenders import engine_name

# (model, work) -> each contender's figures in its fastest batching.
Found = Mapping[tuple[str, str], Sequence[dict[str, Any]]]

_ENGINE = engine_name("bf16")


@dataclass(frozen=True, slots=True)
class Target:
    """A bound for one figure.

    Attributes:
        what: The figure, in words.
        model: The model.
        work: The workload.
        value: Takes the figure from those of all contenders; None if it was not measured.
        bound: What it shall be at least, or less than if ``below``.
        shown: How a figure is written.
        below: Whether less is better.
    """

    what: str
    model: str
    work: Work
    value: Callable[[Sequence[dict[str, Any]]], float | None]
    bound: float
    shown: str
    below: bool = False

    def row(self, found: Found) -> tuple[str, str, str, str]:
        """What, asked, measured, met."""
        text = f"{self.model}, {self.work.name}, bf16: {self.what}"
        asked = ("< " if self.below else "at least ") + self.shown.format(self.bound)
        value = self.value(found.get((self.model, self.work.name), ()))
        if value is None:
            return text, asked, "not measured", "-"
        met = value < self.bound if self.below else value >= self.bound
        return text, asked, self.shown.format(value), "yes" if met else "no"


def _figure(*keys: str) -> Callable[[Sequence[dict[str, Any]]], float | None]:
    """A figure of the engine, by its keys in the results."""

    def value(contenders: Sequence[dict[str, Any]]) -> float | None:
        found: Any = next((one for one in contenders if one["name"] == _ENGINE), None)
        for key in keys:
            found = None if found is None else found.get(key)
        return None if found is None else float(found)

    return value


def _over_best_peer(contenders: Sequence[dict[str, Any]]) -> float | None:
    """The fastest peer's time over the engine's."""
    peers = [
        one["ratio"]["median"] for one in contenders if not one["name"].startswith(ENGINE) and "ratio" in one
    ]
    return min(peers, default=None)


TARGETS = (
    Target("tokens/s", BASE, LARGE_BATCH, _figure("tokens_per_second", "median"), 1.2e6, "{:,.0f}"),
    Target("share of the matrix rate", BASE, LARGE_BATCH, _figure("share", "median"), 0.55, "{:.1%}"),
    Target("best peer's time / engine's", BASE, MIXED_BATCH, _over_best_peer, 1.5, "{:.2f}"),
    Target("p50, ms", BASE, ONE_REQUEST, _figure("p50_ms"), 1.0, "{:.3f}", below=True),
    Target("share of the matrix rate", LARGEST, LARGE_BATCH, _figure("share", "median"), 0.6, "{:.1%}"),
)


def target_rows(found: Found) -> list[tuple[str, str, str, str]]:
    """A row of the table for each target."""
    return [target.row(found) for target in TARGETS]
