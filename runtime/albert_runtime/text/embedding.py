"""embed: texts to vectors."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..artifact.tasks import LAST_HIDDEN_STATE, MODEL, POOLED_OUTPUT, SENTENCE_EMBEDDING
from ..backends.base import Outputs
from ..errors import InputError
from .checks import row_names, validate_count, validate_row
from .encoded import Encoded, Text
from .task_method import RowGroup, TextMethod, TextModel
from .token_ids import row_of_ids, stands_for_text, validate_token_ids

POOLINGS = ("mean", "cls", "pooler")


class Embed(TextMethod):
    """Texts, pairs or lists of token ids to vectors.

    A list of ids is a whole row: neither special tokens nor a prompt are added.

    A model of a sentence-transformers folder does what its modules say unless a pooling is asked for; the
    text rules of its folder (where texts are cut, prompts) hold in either case.
    """

    tasks = (MODEL,)
    usage = "embed(texts)"
    options = ("truncate", "pooling", "normalize", "prompt_name", "dimensions")

    def __init__(
        self,
        model: TextModel,
        *,
        truncate: bool | None = None,
        pooling: str | None = None,
        normalize: bool | None = None,
        prompt_name: str | None = None,
        dimensions: int | None = None,
    ) -> None:
        texts = model.sentence_texts
        super().__init__(model, truncate=texts is not None if truncate is None else truncate)
        if pooling is not None and pooling not in POOLINGS:
            raise InputError(f"pooling {pooling!r} is unknown; choose one of {', '.join(POOLINGS)}")
        by_modules = texts is not None and pooling is None
        self.pooling = "modules" if by_modules else pooling or "mean"
        width = model.embedding_size if pooling is None else model.hidden_size
        if dimensions is not None and validate_count("dimensions", dimensions) > width:
            raise InputError(f"dimensions is {dimensions}; the vectors of {model.name} have {width} numbers")
        self.dimensions = dimensions
        # A part of a vector of length 1 is shorter.
        scales_itself = by_modules and dimensions in (None, width)
        self.normalize = not scales_itself if normalize is None else normalize
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

    def validate(self, item: object, row: int) -> Any:
        """See TaskMethod.validate."""
        if isinstance(item, list | tuple | np.ndarray) and len(item) and not isinstance(item[0], str):
            return validate_token_ids(item, row, self.model.limits)
        return super().validate(item, row)

    def row_groups(self, items: Sequence[Any], first_row: int) -> list[list[RowGroup]]:
        """See TaskMethod.row_groups. A prompt goes before a text, or before the first text of a pair."""
        texts = [
            (index, self._with_prompt(item)) for index, item in enumerate(items) if not isinstance(item, list)
        ]
        name = row_names(first_row)
        encoded = self.model.encoder.encode(
            [text for _, text in texts], self.truncate, lambda index: name(texts[index][0])
        )
        rows = {index: row for (index, _), row in zip(texts, encoded, strict=True)}
        for index, item in enumerate(items):
            row = rows.get(index)
            if row is None:
                rows[index] = self._row_of_ids(item)
            elif len(row.ids) <= self.skip:
                raise InputError(f"{name(index)}: nothing of the text is left behind its prompt to be pooled")
            validate_row(rows[index], name(index), self.model.limits)
        return [[[rows[index]]] for index in range(len(items))]

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
            skips = [self.skip if stands_for_text(group[0]) else 0 for group in groups]
            return [
                pooler.row(row, np.arange(len(row), dtype=np.int32), skip)
                for row, skip in zip(rows, skips, strict=True)
            ]
        return [row.mean(axis=0, dtype=np.float64) for row in rows]

    def answer(self, item: Any, groups: Sequence[RowGroup], partials: Sequence[Any]) -> Any:
        """See TaskMethod.answer."""
        vector = partials[0][: self.dimensions]
        if self.normalize:
            vector = vector / max(float(np.linalg.norm(vector)), np.finfo(np.float64).tiny)
        return vector.astype(np.float32)

    def _with_prompt(self, item: Text) -> Text:
        if isinstance(item, str):
            return self.prompt + item
        return self.prompt + item[0], item[1]

    def _row_of_ids(self, ids: list[int]) -> Encoded:
        return row_of_ids(ids[: self.model.encoder.max_length] if self.truncate else ids)

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
