"""classify: texts to labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..artifact.tasks import LOGITS, SEQUENCE_CLASSIFICATION
from ..backends.base import Outputs
from .checks import validate_count
from .scores import sigmoid, softmax
from .task_method import Answer, RowGroup, TextMethod, TextModel


class Classify(TextMethod):
    """Texts or pairs to their label."""

    tasks = (SEQUENCE_CLASSIFICATION,)
    usage = "classify(texts)"
    options = ("truncate", "top_k")
    outputs = (LOGITS,)

    def __init__(self, model: TextModel, *, truncate: bool = False, top_k: int | None = None) -> None:
        super().__init__(model, truncate=truncate)
        self.top_k = validate_count("top_k", top_k) if top_k is not None else None

    def extract(self, outputs: Outputs, groups: Sequence[RowGroup]) -> list[Any]:
        """See TaskMethod.extract."""
        return list(outputs[LOGITS])

    def answer(self, item: Any, groups: Sequence[RowGroup], partials: Sequence[Any]) -> Answer:
        """See TaskMethod.answer."""
        labels, multi_label = self.model.labels, self.model.multi_label
        if len(labels) == 1 and not multi_label:  # trained by regression: a softmax of one value is always 1
            return {"label": labels[0], "score": float(partials[0][0])}
        probabilities = sigmoid(partials[0]) if multi_label else softmax(partials[0])
        order = np.argsort(-probabilities, kind="stable")
        answer: Answer = {"label": labels[order[0]], "score": float(probabilities[order[0]])}
        if self.top_k is not None or multi_label:
            answer["probabilities"] = {labels[i]: float(probabilities[i]) for i in order[: self.top_k]}
        return answer
