"""Small inputs for a program, by which it is seen what it does with each."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import ExportError
from .graph import Graph

# Where the program takes any: two rows of five tokens, of multiple choice two of three rows each.
_BATCH, _CHOICES, _LENGTH = 2, 3, 5
_MAX_ELEMENTS = 1 << 16
_MAX_DIGITS = 20


@dataclass(frozen=True)
class Probe:
    """An array for each input, of zeros and ones, no two alike. ``batch`` counts all rows of tokens."""

    feeds: Mapping[str, np.ndarray]
    batch: int
    length: int
    choices: bool

    def input_of(self, indices: np.ndarray) -> str | None:
        """The name of the input that has these values; None if there is none."""
        for name, values in self.feeds.items():
            if values.size == indices.size and np.array_equal(values.ravel(), indices.ravel()):
                return name
        return None


def make_probe(graph: Graph, words: tuple[int, int] = (0, 1), of: str | None = None) -> Probe:
    """Inputs of the sizes that the program asks for, else small ones.

    Args:
        graph: The program.
        words: What takes the place of 0 and 1 in the input ``of``, the word ids.

    Raises:
        ExportError: Its inputs are none of an ALBERT's.
    """
    ranks = {len(one.shape) for one in graph.inputs}
    if len(ranks) != 1 or not ranks <= {2, 3}:
        shapes = ", ".join(f"{one.name} {_shown(one.shape)}" for one in graph.inputs) or "none"
        raise ExportError(f"its inputs are {shapes}; an ALBERT has rows of word ids, [batch, sequence]")
    default = (_BATCH, _CHOICES, _LENGTH) if ranks == {3} else (_BATCH, _LENGTH)
    given = [[one.shape[axis] for one in graph.inputs] for axis in range(len(default))]
    shape = [
        next((size for size in sizes if size), small) for sizes, small in zip(given, default, strict=True)
    ]
    if min(shape) < 1 or math.prod(shape) > _MAX_ELEMENTS:
        raise ExportError(f"its inputs have the shape {shape}, which is no batch of word ids")
    rows = np.arange(int(np.prod(shape[:-1])))
    feeds = {}
    patterns: list[np.ndarray] = []
    for number, one in enumerate(graph.inputs):
        # Ones at the front, as some programs take masks for the rows' lengths; no row is masked as a whole.
        # As a number in base T - 1 has digits, no two inputs have the same lengths in all rows.
        choices = max(1, shape[-1] - 1)
        lengths = 1 + (number // choices ** np.minimum(rows, _MAX_DIGITS) + rows) % choices
        values = (np.arange(shape[-1]) < lengths[:, None]).astype(int)
        if any(np.array_equal(values, other) for other in patterns):
            raise ExportError(
                f"its fixed shape {shape} is too small to tell its {len(graph.inputs)} inputs apart"
            )
        patterns.append(values)
        values = np.array(words)[values] if one.name == of else values
        feeds[one.name] = values.reshape(shape).astype(one.dtype)
    return Probe(feeds, len(rows), shape[-1], len(shape) == 3)


def _shown(shape: tuple[int | None, ...]) -> str:
    return str([size or "any" for size in shape]).replace("'", "")
