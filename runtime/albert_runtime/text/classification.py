"""classify: texts to labels."""

from collections.abc import Sequence
from typing import Any

from ..artifact.tasks import ACTIVATIONS, LOGITS, SEQUENCE_CLASSIFICATION, SOFTMAX
from ..backends.base import Outputs
from ..errors import InputError
from .checks import validate_count
from .scores import activated
from .task_method import Answer, RowGroup, TextMethod, TextModel


class Classify(TextMethod):
    """Texts or pairs to their label."""

    tasks = (SEQUENCE_CLASSIFICATION,)
    usage = "classify(texts)"
    options = ("truncate", "top_k", "activation")
    outputs = (LOGITS,)

    def __init__(
        self,
        model: TextModel,
        *,
        truncate: bool = False,
        top_k: int | None = None,
        activation: str | None = None,
    ) -> None:
        super().__init__(model, truncate=truncate)
        self.top_k = validate_count("top_k", top_k) if top_k is not None else None
        if activation is not None and activation not in ACTIVATIONS:
            raise InputError(f"activation must be one of {', '.join(ACTIVATIONS)}, not {activation!r:.40}")
        self.activation = model.activation if activation is None else activation
        # Only a softmax's best label speaks for the others, too.
        self.all_labels = self.activation != SOFTMAX and len(model.labels) > 1

    def extract(self, outputs: Outputs, groups: Sequence[RowGroup]) -> list[Any]:
        """See TaskMethod.extract."""
        return list(outputs[LOGITS])

    def answer(self, item: Any, groups: Sequence[RowGroup], partials: Sequence[Any]) -> Answer:
        """See TaskMethod.answer."""
        labels = self.model.labels
        scores = activated(partials[0], self.activation)
        order = (-scores).argsort(kind="stable").tolist()
        answer: Answer = {"label": labels[order[0]], "score": float(scores[order[0]])}
        if self.top_k is not None or self.all_labels:
            probabilities: dict[str, float] = {}
            for column in order[: self.top_k]:
                # Of labels of one name the likeliest keeps it; the others say which column they are.
                name = labels[column]
                while name in probabilities:
                    name = f"{name} (LABEL_{column})"
                probabilities[name] = float(scores[column])
            answer["probabilities"] = probabilities
        return answer
