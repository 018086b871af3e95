"""The batches that are timed: seeded token ids of uniform and mixed lengths, and their cost."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from albert_runtime import AlbertConfig

Rows = list[NDArray[np.int64]]

# Lengths like those of real traffic: log-normal, median 33 tokens.
MIXED_MEAN, MIXED_SIGMA = 3.5, 0.7
MIXED_SHORTEST, MIXED_LONGEST = 5, 384
MIXED = "mixed"
_FIRST_ID = 5  # the ids below are special tokens
_SEED = 0


@dataclass(frozen=True, slots=True)
class Workload:
    """A batch whose rows have ``lengths`` tokens; the seed and the vocabulary determine its ids."""

    name: str
    lengths: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Tokens in all rows, without padding."""
        return sum(self.lengths)

    @property
    def is_mixed(self) -> bool:
        """Whether the rows differ in length."""
        return self.name.startswith(MIXED)

    def rows(self, config: AlbertConfig) -> Rows:
        """Token ids of each row, int64 [length]."""
        generator = np.random.default_rng(_SEED)
        first = min(_FIRST_ID, config.vocab_size - 1)
        return [generator.integers(first, config.vocab_size, length) for length in self.lengths]

    def flops(self, config: AlbertConfig, *, pooled_only: bool = False) -> float:
        """Operations of the layers' matrix products, without padding; a multiply-add counts as two.

        With ``pooled_only`` those that the pooled output needs: of the last layer, keys and values of all
        tokens, and everything else of each row's first token.
        """
        hidden, inner = config.hidden_size, config.intermediate_size
        keys_and_values = 4 * hidden * hidden  # a token
        others = 4 * hidden * hidden + 4 * hidden * inner  # a token: query, output projection, FFN
        layers = config.num_hidden_layers * config.inner_group_num
        total = 0
        for length in self.lengths:
            attended = 4 * length * hidden  # a query: scores and their weighted sum
            queries = layers * length - (length - 1 if pooled_only else 0)
            total += layers * length * keys_and_values + queries * (others + attended)
        return float(total)


def uniform(rows: int, length: int) -> Workload:
    """Rows of one length."""
    return Workload(f"{rows}x{length}", (length,) * rows)


def mixed(rows: int, longest: int = MIXED_LONGEST) -> Workload:
    """Rows of log-normal lengths, clipped to 5..384, or to ``longest`` if that is shorter."""
    drawn = np.random.default_rng(_SEED).lognormal(MIXED_MEAN, MIXED_SIGMA, rows)
    upper = min(longest, MIXED_LONGEST)
    lengths = np.clip(drawn, min(MIXED_SHORTEST, upper), upper).astype(int)
    return Workload(f"{MIXED} {rows}", tuple(lengths.tolist()))


UNIFORM = tuple(uniform(*shape) for shape in ((1, 16), (1, 32), (1, 128), (8, 128), (32, 128), (4, 512)))
# Names of the workloads of a standard and of a quick run.
STANDARD = (*(workload.name for workload in UNIFORM), "mixed 32", "mixed 128")
QUICK = ("1x16", "8x128", "mixed 32")


def select_workloads(names: tuple[str, ...], config: AlbertConfig) -> list[Workload]:
    """The named workloads, without those whose rows are longer than the model can read."""
    longest = config.max_position_embeddings
    known = {workload.name: workload for workload in (*UNIFORM, mixed(32, longest), mixed(128, longest))}
    return [known[name] for name in names if max(known[name].lengths) <= longest]
