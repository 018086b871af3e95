"""choose: a prompt and choices to the best choice."""

from collections.abc import Sequence
from typing import Any

from ..artifact.tasks import LOGITS, MULTIPLE_CHOICE
from ..backends.base import Outputs
from ..errors import InputError
from .checks import validate_row, validate_text
from .scores import softmax
from .task_method import Answer, RowGroup, TaskMethod


class Choose(TaskMethod):
    """(prompt, choices) to the best choice."""

    tasks = (MULTIPLE_CHOICE,)
    usage = "choose(prompt, choices)"
    options = ("truncate",)
    has_choices = True
    outputs = (LOGITS,)

    def validate(self, item: object, row: int) -> tuple[str, list[str]]:
        """See TaskMethod.validate."""
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise InputError(f"row {row} must be a pair (prompt, choices)")
        prompt, choices = item
        if isinstance(choices, str) or not isinstance(choices, Sequence) or not choices:
            raise InputError(f"row {row} must have its choices in a list, not {choices!r:.80}")
        form = "a string"
        return validate_text(prompt, row, form), [validate_text(choice, row, form) for choice in choices]

    def row_groups(self, items: Sequence[Any], first_row: int) -> list[list[RowGroup]]:
        """See TaskMethod.row_groups."""
        found: list[list[RowGroup]] = []
        for row, (prompt, choices) in enumerate(items, first_row):
            pairs = [(prompt, choice) for choice in choices]
            name = f"row {row}, choice {{}}".format
            group = self.model.encoder.encode(pairs, self.truncate, name)
            for index, encoded in enumerate(group):
                validate_row(encoded, name(index), self.model.limits)
            found.append([group])
        return found

    def extract(self, outputs: Outputs, groups: Sequence[RowGroup]) -> list[Any]:
        """See TaskMethod.extract."""
        return list(outputs[LOGITS])

    def answer(self, item: Any, groups: Sequence[RowGroup], partials: Sequence[Any]) -> Answer:
        """See TaskMethod.answer."""
        probabilities = softmax(partials[0])
        best = int(probabilities.argmax())
        return {
            "choice": item[1][best],
            "index": best,
            "score": float(probabilities[best]),
            "probabilities": probabilities.tolist(),
        }
