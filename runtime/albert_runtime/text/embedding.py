"""embed: texts to vectors."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..artifact.tasks import LAST_HIDDEN_STATE, MODEL, POOLED_OUTPUT, SENTENCE_EMBEDDING
from ..backends.base import Outputs
from ..errors import InputError
from .task_method import RowGroup, TextMethod, TextModel

POOLINGS = ("mean", "cls", "pooler")


class Embed(TextMethod):
    """Texts or pairs to vectors.

    A model of a sentence-transformers folder does what its modules say unless a pooling is asked for; the
    text rules of its folder (where texts are cut, prompts) hold in either case.
    """

    tasks = (MODEL,)
    usage = "embed(texts)"
    options = ("truncate", "pooling", "normalize", "prompt_name")

    def __init__(
        self,
        model: TextModel,
        *,
        truncate: bool | None = None,
        pooling: str | None = None,
        normalize: bool | None = None,
        prompt_name: str | None = None,
    ) -> None:
        texts = model.sentence_texts
        super().__init__(model, truncate=texts is not None if truncate is None else truncate)
        if pooling is not None and pooling not in POOLINGS:
            raise InputError(f"pooling {pooling!r} is unknown; choose one of {', '.join(POOLINGS)}")
        by_modules = texts is not None and pooling is None
        self.pooling = "modules" if by_modules else pooling or "mean"
        self.normalize = not by_modules if normalize is None else normalize
        self.prompt = _prompt(model, prompt_name)
        # How many tokens from the first on are a prompt that is not pooled.
        self.skip = 0
        if by_modules and self.prompt and texts is not None and not texts.include_prompt:
            self.skip = self._prompt_length()
        if by_modules and not self.skip:
            self.outputs = (SENTENCE_EMBEDDING,)
        else:
            self.outputs = (POOLED_OUTPUT,) if pooling == "pooler" else (LAST_HIDDEN_STATE,)
        if self.outputs[0] not in model.outputs:
            raise InputError(f"{model.name} has no pooler; choose pooling='mean' or 'cls'")

    def row_groups(self, items: Sequence[Any], first_row: int) -> list[list[RowGroup]]:
        """See TaskMethod.row_groups. A prompt goes before a text, or before the first text of a pair."""
        if self.prompt:
            items = [
                self.prompt + item if isinstance(item, str) else (self.prompt + item[0], *item[1:])
                for item in items
            ]
        groups = super().row_groups(items, first_row)
        if self.skip:
            for row, ((encoded,),) in enumerate(groups, first_row):
                if len(encoded.ids) <= self.skip:
                    raise InputError(f"row {row}: nothing of the text is left behind its prompt to be pooled")
        return groups

    def extract(self, outputs: Outputs, groups: Sequence[RowGroup]) -> list[Any]:
        """See TaskMethod.extract."""
        values = outputs[self.outputs[0]]
        if self.outputs[0] != LAST_HIDDEN_STATE:
            return [row.astype(np.float64) for row in values]
        if self.pooling == "cls":
            return [row[0].astype(np.float64) for row in values]
        rows = [row[: len(group[0].ids)] for row, group in zip(values, groups, strict=True)]
        if self.skip:
            pooler = self.model.pooler
            assert pooler is not None  # it has sentence_texts
            return [pooler.row(row, np.arange(len(row), dtype=np.int32), self.skip) for row in rows]
        return [row.mean(axis=0, dtype=np.float64) for row in rows]

    def answer(self, item: Any, groups: Sequence[RowGroup], partials: Sequence[Any]) -> Any:
        """See TaskMethod.answer."""
        vector = partials[0]
        if self.normalize:
            vector = vector / max(float(np.linalg.norm(vector)), np.finfo(np.float64).tiny)
        return vector.astype(np.float32)

    def _prompt_length(self) -> int:
        """Tokens of the prompt alone, [CLS] included and [SEP] not, as sentence-transformers counts them."""
        (encoded,) = self.model.encoder.encode([self.prompt], self.truncate)
        return len(encoded.ids) - (encoded.parts[-1] is None)


def _prompt(model: TextModel, name: str | None) -> str:
    """The text to put before every text; InputError if the model has no prompt of that name."""
    texts = model.sentence_texts
    prompts = {} if texts is None else texts.prompts
    if name is None:
        name = None if texts is None else texts.default_prompt_name
        return "" if name is None else prompts[name]
    if not isinstance(name, str) or name not in prompts:
        known = f"has the prompts {', '.join(prompts)}" if prompts else "has no prompts"
        raise InputError(f"prompt {name!r:.80} is unknown; {model.name} {known}")
    return prompts[name]
