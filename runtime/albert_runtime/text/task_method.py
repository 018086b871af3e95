"""What every text method is: a class that turns items into rows, and the model's outputs into answers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..artifact.sentence import SentenceTexts
from ..artifact.tasks import SOFTMAX
from ..backends.base import Outputs
from ..backends.sentence_pooling import SentencePooler
from ..batch.packed import Int32, ModelLimits, PackedBatch
from .checks import row_names, validate_row, validate_text
from .encoded import Encoded
from .tokenizer import TextEncoder

Answer = dict[str, Any]
# Rows that run together: all choices of a question; elsewhere a single row.
RowGroup = Sequence[Encoded]


@dataclass(frozen=True, slots=True)
class TextModel:
    """What text methods need to know of a model.

    ``run`` is Backend.run, ``activation`` is Head.score_activation. ``embedding_size``: numbers in a vector
    that the model itself makes; ``sentence_texts``: see the manifest; ``pooler``: that of the sentence head.
    """

    name: str
    task: str
    labels: tuple[str, ...]
    outputs: tuple[str, ...]
    hidden_size: int
    limits: ModelLimits
    encoder: TextEncoder
    run: Callable[[PackedBatch, Sequence[str], Int32 | None], Outputs]
    activation: str = SOFTMAX
    embedding_size: int = 0
    sentence_texts: SentenceTexts | None = None
    pooler: SentencePooler | None = None


class TaskMethod(ABC):
    """A text method, such as classify, with its options.

    An item goes through ``validate``, ``row_groups``, the model, ``extract`` and ``answer``. Between the last
    two only a partial result of each row group is kept, so that outputs of whole batches need not be.
    """

    tasks: ClassVar[tuple[str, ...]]
    usage: ClassVar[str]  # how to call it, for error messages
    options: ClassVar[tuple[str, ...]] = ()  # keyword arguments
    has_choices: ClassVar[bool] = False  # whether a row group is the choices of a question
    outputs: tuple[str, ...]

    def __init__(self, model: TextModel, *, truncate: bool = False) -> None:
        self.model = model
        self.truncate = truncate

    @abstractmethod
    def validate(self, item: object, row: int) -> Any:
        """The item; InputError, which names its row, if the method does not take it."""

    @abstractmethod
    def row_groups(self, items: Sequence[Any], first_row: int) -> list[list[RowGroup]]:
        """The row groups of each item; ``first_row`` is the row number of the first item, for errors."""

    @abstractmethod
    def extract(self, outputs: Outputs, groups: Sequence[RowGroup]) -> list[Any]:
        """A partial result for each row group of a batch."""

    @abstractmethod
    def answer(self, item: Any, groups: Sequence[RowGroup], partials: Sequence[Any]) -> Any:
        """The answer to an item from the partial results of its row groups."""

    def score_columns(self, row: Encoded) -> list[int] | None:
        """The tokens of a row whose vocabulary scores are needed; None = this method uses no such scores."""
        return None


class TextMethod(TaskMethod):
    """A method whose items are single texts, or also pairs if ``pairs`` is set."""

    pairs: ClassVar[bool] = True

    def validate(self, item: object, row: int) -> Any:
        """See TaskMethod.validate."""
        pair = isinstance(item, tuple | list) and len(item) == 2 and self.pairs
        if not pair:
            return validate_text(item, row, "a string or a pair of strings" if self.pairs else "a string")
        return tuple(validate_text(part, row, "a string") for part in item)  # type: ignore[attr-defined]

    def row_groups(self, items: Sequence[Any], first_row: int) -> list[list[RowGroup]]:
        """See TaskMethod.row_groups."""
        name = row_names(first_row)
        rows = self.model.encoder.encode(items, self.truncate, name)
        for index, encoded in enumerate(rows):
            validate_row(encoded, name(index), self.model.limits)
        return [[[encoded]] for encoded in rows]
