"""Turns documents into rows of ids, and rows into masked batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from .corpus import Document
from .vocabulary import CLS, MASK, PAD, SEP, SPECIAL

Ids = NDArray[np.int64]
WIDTHS = (16, 24, 32, 48, 64, 96, 128)


@dataclass(frozen=True)
class Rows:
    """Rows of ids, each [CLS] ... [SEP], grouped by padded width."""

    by_width: dict[int, Ids]

    @property
    def tokens(self) -> int:
        """Number of ids that are not padding."""
        return sum(int((rows != PAD).sum()) for rows in self.by_width.values())


@dataclass(frozen=True)
class MaskedBatch:
    """ids [B, T] with masks; chosen [N], positions in the flattened ids; wanted [N], the ids there."""

    ids: Ids
    chosen: Ids
    wanted: Ids


def make_rows(documents: Sequence[Document], tokenizer: Tokenizer, longest: int) -> Rows:
    """Pack neighbouring paragraphs into rows of at most ``longest`` ids; longer paragraphs are cut."""
    rows: dict[int, list[Ids]] = {width: [] for width in WIDTHS if width <= longest}
    for document in documents:
        pending: list[int] = []
        for encoding in tokenizer.encode_batch(list(document.paragraphs), add_special_tokens=False):
            ids = list(encoding.ids)
            if pending and len(pending) + len(ids) > longest - 2:
                _add(rows, pending)
                pending = []
            pending += ids
            while len(pending) > longest - 2:
                _add(rows, pending[: longest - 2])
                pending = pending[longest - 2 :]
        if len(pending) > 3:
            _add(rows, pending)
    return Rows({width: np.stack(group) for width, group in rows.items() if group})


def _add(rows: dict[int, list[Ids]], ids: list[int]) -> None:
    width = next(width for width in rows if width >= len(ids) + 2)
    row = np.full(width, PAD, np.int64)
    row[: len(ids) + 2] = [CLS, *ids, SEP]
    rows[width].append(row)


class Masker:
    """Masks whole words: all the pieces of a word or none. Punctuation is masked less often.

    Of the chosen positions a share ``kept`` keep their piece, a share ``changed`` get a random one, and the
    others get [MASK].
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        word: float = 0.25,
        sign: float = 0.04,
        kept: float = 0.05,
        changed: float = 0.05,
    ) -> None:
        self.kept, self.changed = kept, changed
        pieces = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
        self.begins = np.array([not p[0].isalnum() or p in SPECIAL for p in pieces])
        self.rate = np.array([word if p.strip("▁")[:1].isalnum() else sign for p in pieces])
        self.rate[: len(SPECIAL)] = 0.0

    def mask(self, rows: Ids, rng: np.random.Generator) -> MaskedBatch:
        """A batch from rows [B, T]."""
        begins = self.begins[rows]
        begins[:, 0] = True
        word = np.cumsum(begins.ravel()) - 1
        # A word's rate is that of its first piece; one random number per word.
        hidden = rng.random(word[-1] + 1) < self.rate[rows][begins]
        chosen = np.flatnonzero(hidden[word])
        wanted = rows.ravel()[chosen]
        shown = np.full(len(chosen), MASK)
        fate = rng.random(len(chosen))
        random_ids = rng.integers(len(SPECIAL), len(self.begins), len(chosen))
        shown = np.where(fate < self.kept + self.changed, random_ids, shown)
        shown = np.where(fate < self.kept, wanted, shown)
        ids = rows.copy().ravel()
        ids[chosen] = shown
        return MaskedBatch(ids.reshape(rows.shape), chosen, wanted)


def epoch(rows: Rows, tokens: int, rng: np.random.Generator) -> Iterator[Ids]:
    """Every row once, in shuffled batches of one width and about ``tokens`` ids each."""
    batches = []
    for width, group in rows.by_width.items():
        order = rng.permutation(len(group))
        size = max(1, tokens // width)
        batches += [group[order[i : i + size]] for i in range(0, len(group), size)]
    for index in rng.permutation(len(batches)):
        yield batches[index]
