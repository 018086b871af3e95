"""Between the names of a model's outputs and what our engines compute: the same for CPU and GPU."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..artifact.tasks import (
    HIDDEN_STATES,
    LAST_HIDDEN_STATE,
    LOGITS,
    MASKED_SPAN_LOGIT,
    POOLED_OUTPUT,
    PREDICTION_SCORES,
    QUESTION_ANSWERING,
    SENTENCE_EMBEDDING,
    SOP_LOGITS,
    SPAN_LOGITS,
    Head,
)
from ..batch.packed import Int32, PackedBatch
from .base import Array, Outputs
from .sentence_pooling import SentencePooler

_POOLED = frozenset((LOGITS, SOP_LOGITS))
_PER_TOKEN = frozenset((LOGITS, *SPAN_LOGITS))


def masked_logit(head: Head) -> float:
    """What token_logits hold at masked positions."""
    return MASKED_SPAN_LOGIT if head.task == QUESTION_ANSWERING else 0.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which results of an engine a call needs: everything else is not computed."""

    hidden: bool
    states: bool
    pooled: bool
    token_logits: bool
    pooled_logits: bool
    scores: bool

    @classmethod
    def of(cls, outputs: Sequence[str], head: Head) -> "Wanted":
        """What the named outputs are made of."""
        pooled_logits = head.reads_pooled and not _POOLED.isdisjoint(outputs)
        return cls(
            hidden=LAST_HIDDEN_STATE in outputs or SENTENCE_EMBEDDING in outputs,
            states=HIDDEN_STATES in outputs,
            pooled=POOLED_OUTPUT in outputs,
            token_logits=not pooled_logits and not _PER_TOKEN.isdisjoint(outputs),
            pooled_logits=pooled_logits,
            scores=PREDICTION_SCORES in outputs,
        )


@dataclass(slots=True)
class Results:
    """What an engine computed, float32; None for what was not wanted. B rows of T columns.

    Attributes:
        hidden: [B, T, H].
        states: [B, T, L + 1, H], the embeddings mapped to H first.
        pooled: [B, H].
        token_logits: [B, T, labels].
        pooled_logits: [B, labels].
        scores: [score slots, V]; see ``ScorePlaces``.
    """

    hidden: Array | None = None
    states: Array | None = None
    pooled: Array | None = None
    token_logits: Array | None = None
    pooled_logits: Array | None = None
    scores: Array | None = None

    def named(
        self,
        outputs: Sequence[str],
        head: Head,
        batch: PackedBatch,
        score_tokens: Int32 | None,
        pooler: SentencePooler | None = None,
    ) -> Outputs:
        """The outputs of Backend.run by name. ``pooler`` makes sentence_embedding where the head has it."""
        scores = self.scores
        if scores is not None and score_tokens is None:
            scores = scores.reshape(*batch.shape, -1)
        found: dict[str, Array | None] = {
            LAST_HIDDEN_STATE: self.hidden,
            HIDDEN_STATES: self.states,
            POOLED_OUTPUT: self.pooled,
            SOP_LOGITS: self.pooled_logits,
            LOGITS: self.token_logits if self.pooled_logits is None else self.pooled_logits,
            PREDICTION_SCORES: scores,
        }
        if self.token_logits is not None and head.task == QUESTION_ANSWERING:
            for column, name in enumerate(SPAN_LOGITS):
                found[name] = np.ascontiguousarray(self.token_logits[..., column])
        if pooler is not None and self.hidden is not None and SENTENCE_EMBEDDING in outputs:
            found[SENTENCE_EMBEDDING] = pooler.pool(self.hidden, batch)
        if self.pooled_logits is not None and batch.choices is not None:
            found[LOGITS] = self.pooled_logits.reshape(-1, batch.choices)
        return {name: found[name] for name in outputs}  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class ScorePlaces:
    """Whose vocabulary scores are wanted: packed tokens int32 [P], ascending, and the slot of each, [P].

    There are ``count`` slots. Where a caller names the tokens, each has one in the caller's order; else every
    cell of the padded array has one, and those of padding stay 0 (``padded``).
    """

    tokens: Int32
    slots: Int32
    count: int
    padded: bool

    @classmethod
    def of(cls, batch: PackedBatch, score_tokens: Int32 | None) -> "ScorePlaces":
        """The places of those tokens, or of every unmasked one."""
        if score_tokens is None:
            kept = batch.unmasked()
            cells = batch.padded_indices(batch.shape[1])[kept].astype(np.int32)
            return cls(np.flatnonzero(kept).astype(np.int32), cells, batch.shape[0] * batch.shape[1], True)
        order = np.argsort(score_tokens, kind="stable")
        return cls(score_tokens[order], order.astype(np.int32), len(score_tokens), False)

    def room(self, columns: int) -> Array:
        """An array [count, columns] for the scores."""
        return (np.zeros if self.padded else np.empty)((self.count, columns), np.float32)
