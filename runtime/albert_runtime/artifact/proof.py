"""The proof of an artifact: rows of token ids, and digests of what the engine answered to them at the export.

Whoever loads the artifact can have the rows answered again and compare. The rows themselves are stored, not
how they were chosen, so that no later version can choose others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .config import AlbertConfig
from .json_fields import clip, fail_field, get, sha256_hex
from .tasks import MULTIPLE_CHOICE, Head

# For multiple choice, the rows of one question.
CHOICES = 2
_MAX_TOKENS = 4096  # in all rows, so that no manifest can hold up a start


@dataclass(frozen=True, slots=True)
class ProofRow:
    """One row, without padding: its token ids, and as many token types."""

    input_ids: tuple[int, ...]
    token_type_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Proof:
    """What is computed again, and what must come of it.

    Attributes:
        rows: The rows of one batch; for multiple choice, each question has CHOICES of them.
        digests: By precision and output, the sha256 of the output's values; see ``albert_runtime.proof``.
    """

    rows: tuple[ProofRow, ...]
    digests: dict[str, dict[str, str]]

    @property
    def tokens(self) -> int:
        """Tokens in all rows."""
        return sum(len(row.input_ids) for row in self.rows)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], config: AlbertConfig, head: Head) -> "Proof":
        """Check a decoded proof of such a model; ArtifactError names the field that is wrong."""
        rows = tuple(
            _row(entry, f"proof.rows[{index}]", config)
            for index, entry in enumerate(get(data, "rows", list, "proof"))
        )
        proof = cls(rows, _digests(get(data, "digests", dict, "proof"), head.outputs(config)))
        if not 1 <= proof.tokens <= _MAX_TOKENS:
            fail_field("proof.rows", f"hold {proof.tokens} tokens, not 1 to {_MAX_TOKENS}")
        if head.task == MULTIPLE_CHOICE and len(rows) % CHOICES:
            fail_field("proof.rows", f"are {len(rows)}, not {CHOICES} for each question")
        return proof


def _row(entry: Any, where: str, config: AlbertConfig) -> ProofRow:
    if not isinstance(entry, dict):
        fail_field(where, f"must be an object, not {clip(entry)}")
    ids = _numbers(entry, "input_ids", where, config.vocab_size)
    types = _numbers(entry, "token_type_ids", where, config.type_vocab_size)
    if not 1 <= len(ids) <= config.max_position_embeddings:
        fail_field(where, f"has {len(ids)} tokens, not 1 to {config.max_position_embeddings}")
    if len(types) != len(ids):
        fail_field(where, f"has {len(ids)} token ids and {len(types)} token types")
    return ProofRow(ids, types)


def _numbers(entry: Mapping[str, Any], key: str, where: str, end: int) -> tuple[int, ...]:
    values = get(entry, key, list, where)
    for value in values:
        if type(value) is not int or not 0 <= value < end:
            fail_field(f"{where}.{key}", f"holds {clip(value)}, not a whole number from 0 to {end - 1}")
    return tuple(values)


def _digests(data: Mapping[str, Any], known: tuple[str, ...]) -> dict[str, dict[str, str]]:
    if not data:
        fail_field("proof.digests", "is empty")
    digests = {}
    for precision in data:
        where = f"proof.digests.{clip(precision, 20)}"
        outputs = get(data, precision, dict, "proof.digests")
        if not outputs:
            fail_field(where, "is empty")
        for name in outputs:
            if name not in known:
                fail_field(where, f"names {clip(name)}, which is no output; they are {', '.join(known)}")
        digests[precision] = {name: sha256_hex(outputs, name, where) for name in outputs}
    return digests
