"""Answers per text: labels, vectors, choices."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..artifact.tasks import MODEL, MULTIPLE_CHOICE, SEQUENCE_CLASSIFICATION
from ..errors import InputError
from .task_method import (
    Answer,
    Method,
    Results,
    Setting,
    TextMethod,
    Unit,
    check_row,
    sigmoid,
    softmax,
    validate_text,
)

POOLINGS = ("mean", "cls", "pooler")


class Classify(TextMethod):
    """Texts or pairs to their label."""

    tasks = (SEQUENCE_CLASSIFICATION,)
    usage = "classify(texts)"
    options = ("truncate", "top_k")
    outputs = ("logits",)

    def __init__(self, setting: Setting, *, truncate: bool = False, top_k: int | None = None) -> None:
        super().__init__(setting, truncate=truncate)
        self.top_k = validate_count("top_k", top_k) if top_k is not None else None

    def reduce(self, results: Results, units: Sequence[Unit]) -> list[Any]:
        """See Method.reduce."""
        return list(results["logits"])

    def answer(self, item: Any, units: Sequence[Unit], kept: Sequence[Any]) -> Answer:
        """See Method.answer."""
        labels, multi_label = self.setting.labels, self.setting.multi_label
        if len(labels) == 1 and not multi_label:  # trained by regression: a softmax of one value is always 1
            return {"label": labels[0], "score": float(kept[0][0])}
        shares = sigmoid(kept[0]) if multi_label else softmax(kept[0])
        order = np.argsort(-shares, kind="stable")
        answer: Answer = {"label": labels[order[0]], "score": float(shares[order[0]])}
        if self.top_k is not None or multi_label:
            answer["probabilities"] = {labels[i]: float(shares[i]) for i in order[: self.top_k]}
        return answer


class Embed(TextMethod):
    """Texts or pairs to vectors."""

    tasks = (MODEL,)
    usage = "embed(texts)"
    options = ("truncate", "pooling", "normalize")

    def __init__(
        self, setting: Setting, *, truncate: bool = False, pooling: str = "mean", normalize: bool = True
    ) -> None:
        super().__init__(setting, truncate=truncate)
        if pooling not in POOLINGS:
            raise InputError(f"pooling {pooling!r} is unknown; choose one of {', '.join(POOLINGS)}")
        self.outputs = ("pooled_output",) if pooling == "pooler" else ("last_hidden_state",)
        if self.outputs[0] not in setting.outputs:
            raise InputError(f"{setting.name} has no pooler; choose pooling='mean' or 'cls'")
        self.pooling, self.normalize = pooling, normalize

    def reduce(self, results: Results, units: Sequence[Unit]) -> list[Any]:
        """See Method.reduce."""
        values = results[self.outputs[0]]
        if self.pooling == "pooler":
            return [row.astype(np.float64) for row in values]
        if self.pooling == "cls":
            return [row[0].astype(np.float64) for row in values]
        return [
            row[: len(unit[0].ids)].mean(axis=0, dtype=np.float64)
            for row, unit in zip(values, units, strict=True)
        ]

    def answer(self, item: Any, units: Sequence[Unit], kept: Sequence[Any]) -> Any:
        """See Method.answer."""
        vector = kept[0]
        if self.normalize:
            vector = vector / max(float(np.linalg.norm(vector)), np.finfo(np.float64).tiny)
        return vector.astype(np.float32)


class Choose(Method):
    """(prompt, choices) to the best choice."""

    tasks = (MULTIPLE_CHOICE,)
    usage = "choose(prompt, choices)"
    options = ("truncate",)
    outputs = ("logits",)

    def validate(self, item: object, row: int) -> tuple[str, list[str]]:
        """See Method.validate."""
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise InputError(f"row {row} must be a pair (prompt, choices)")
        prompt, choices = item
        if isinstance(choices, str) or not isinstance(choices, Sequence) or not choices:
            raise InputError(f"row {row} must have its choices in a list, not {choices!r:.80}")
        form = "a string"
        return validate_text(prompt, row, form), [validate_text(choice, row, form) for choice in choices]

    def units(self, items: Sequence[Any], first_row: int) -> list[list[Unit]]:
        """See Method.units."""
        found: list[list[Unit]] = []
        for row, (prompt, choices) in enumerate(items, first_row):
            pairs = [(prompt, choice) for choice in choices]
            unit = self.setting.encoder.encode(pairs, self.truncate)
            for index, encoded in enumerate(unit):
                check_row(encoded, f"row {row}, choice {index}", self.setting.limits)
            found.append([unit])
        return found

    def reduce(self, results: Results, units: Sequence[Unit]) -> list[Any]:
        """See Method.reduce."""
        return list(results["logits"])

    def answer(self, item: Any, units: Sequence[Unit], kept: Sequence[Any]) -> Answer:
        """See Method.answer."""
        shares = softmax(kept[0])
        best = int(shares.argmax())
        return {
            "choice": item[1][best],
            "index": best,
            "score": float(shares[best]),
            "probabilities": shares.tolist(),
        }


def validate_count(name: str, value: object) -> int:
    """A whole number of at least 1; InputError names the option if it is none."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} must be a whole number of at least 1, not {value!r}")
    return value
