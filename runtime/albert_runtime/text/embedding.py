"""embed: texts to vectors."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..artifact.tasks import LAST_HIDDEN_STATE, MODEL, POOLED_OUTPUT
from ..backends.base import Outputs
from ..errors import InputError
from .task_method import RowGroup, TextMethod, TextModel

POOLINGS = ("mean", "cls", "pooler")


class Embed(TextMethod):
    """Texts or pairs to vectors."""

    tasks = (MODEL,)
    usage = "embed(texts)"
    options = ("truncate", "pooling", "normalize")

    def __init__(
        self, model: TextModel, *, truncate: bool = False, pooling: str = "mean", normalize: bool = True
    ) -> None:
        super().__init__(model, truncate=truncate)
        if pooling not in POOLINGS:
            raise InputError(f"pooling {pooling!r} is unknown; choose one of {', '.join(POOLINGS)}")
        self.outputs = (POOLED_OUTPUT,) if pooling == "pooler" else (LAST_HIDDEN_STATE,)
        if self.outputs[0] not in model.outputs:
            raise InputError(f"{model.name} has no pooler; choose pooling='mean' or 'cls'")
        self.pooling, self.normalize = pooling, normalize

    def extract(self, outputs: Outputs, groups: Sequence[RowGroup]) -> list[Any]:
        """See TaskMethod.extract."""
        values = outputs[self.outputs[0]]
        if self.pooling == "pooler":
            return [row.astype(np.float64) for row in values]
        if self.pooling == "cls":
            return [row[0].astype(np.float64) for row in values]
        return [
            row[: len(group[0].ids)].mean(axis=0, dtype=np.float64)
            for row, group in zip(values, groups, strict=True)
        ]

    def answer(self, item: Any, groups: Sequence[RowGroup], partials: Sequence[Any]) -> Any:
        """See TaskMethod.answer."""
        vector = partials[0]
        if self.normalize:
            vector = vector / max(float(np.linalg.norm(vector)), np.finfo(np.float64).tiny)
        return vector.astype(np.float32)
