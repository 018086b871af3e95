"""The models that a server answers for: their names and versions, what they take, and their answers."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact.manifest import INPUTS, Manifest
from ..artifact.tasks import HIDDEN_STATES, MULTIPLE_CHOICE
from ..backends.base import Outputs
from ..errors import ArtifactError, InputError
from ..predictor import Predictor
from ..text.stream import method_of_task
from ..text.tokenizer import MASKS
from .errors import Malformed, NotFound
from .limits import Limits
from .tensors import BYTES, Tensor

TEXT, TEXT_PAIR = "text", "text_pair"
PLATFORM = "albert_runtime"


@dataclass(frozen=True, slots=True)
class Model:
    """One version of a model."""

    name: str
    version: str
    predictor: Predictor
    manifest: Manifest
    limits: Limits

    @property
    def method(self) -> str:
        """The method of the Predictor that answers texts."""
        return method_of_task(self.manifest.task)

    @property
    def label(self) -> str:
        """Its name in metrics, logs and traces."""
        return self.name if self.version == "1" else f"{self.name}/{self.version}"

    def warm_up(self) -> None:
        """Run once, so that the first request finds threads and memory ready."""
        row = [1] * min(16, self.manifest.config.max_position_embeddings)
        batch: Any = [[row, row]] if self.manifest.task == MULTIPLE_CHOICE else [row]
        self.predictor.submit(batch).result()

    def inputs(self) -> list[tuple[str, str, list[int]]]:
        """Name, datatype and shape, -1 where it is free."""
        shape = [-1] * (3 if self.manifest.task == MULTIPLE_CHOICE else 2)
        ids = [(name, "INT64", shape) for name in INPUTS]
        # A question and all its choices do not fit into two columns of texts; /predict takes them.
        if not self.predictor.reads_texts or self.manifest.task == MULTIPLE_CHOICE:
            return ids
        return [*ids, (TEXT, BYTES, [-1]), (TEXT_PAIR, BYTES, [-1])]

    def outputs(self) -> list[tuple[str, str, list[int]]]:
        """Name, datatype and shape, -1 where it is free."""
        config, head = self.manifest.config, self.manifest.head
        found = []
        for name in self.manifest.outputs:
            rows = [-1, -1] if head.is_per_token(name) or self.manifest.task == MULTIPLE_CHOICE else [-1]
            inner = {
                "last_hidden_state": [config.hidden_size],
                HIDDEN_STATES: [config.num_hidden_layers + 1, config.hidden_size],
                "pooled_output": [config.hidden_size],
                "prediction_scores": [config.vocab_size],
                "start_logits": [],
                "end_logits": [],
                "sop_logits": [2],
            }.get(name, [] if self.manifest.task == MULTIPLE_CHOICE else [head.num_labels])
            found.append((name, "FP32", [*rows, *inner]))
        return found

    async def infer(self, tensors: Sequence[Tensor], outputs: Sequence[str] | None) -> Outputs:
        """The outputs for ids or texts; InputError or Malformed for what does not fit this model."""
        if any(tensor.datatype == BYTES for tensor in tensors):
            batch = await asyncio.to_thread(self._batch, tensors, outputs)
        else:
            batch = self._batch(tensors, outputs)
        return await self.predictor.arun(batch, outputs)

    async def answers(self, items: Sequence[Any], **options: Any) -> list[Any]:
        """The task's own answers to texts."""
        await asyncio.to_thread(self._check_items, items, options)
        return [answer async for answer in self.predictor.astream(self.method, items, **options)]

    def _check_items(self, items: Sequence[Any], options: Mapping[str, Any]) -> None:
        if self.manifest.task == MULTIPLE_CHOICE:
            items = [(prompt, choice) for prompt, choices in items for choice in choices]
        self.check_texts(items)
        if self.method == "fill_mask":
            # Every candidate for a mask comes with the whole text.
            texts = [(text, sum(map(text.count, MASKS))) for text in _strings(items)]
            characters = sum(masks * (len(text) + 100) for text, masks in texts)
            self._check_answer(characters * options.get("top_k", 5), "a lower top_k or fewer masks")

    def check_texts(self, items: Sequence[Any]) -> None:
        """InputError for more of them than the server takes at once."""
        if len(items) > self.limits.texts:
            raise InputError(f"{len(items)} texts in a request; this server takes {self.limits.texts}")
        texts = list(_strings(items))
        # A token is seldom less than a character, so that most requests need no counting.
        if sum(map(len, texts)) <= self.limits.tokens:
            return
        tokens = sum(self.predictor.count_tokens(texts))
        if tokens > self.limits.tokens:
            raise InputError(f"the texts have {tokens} tokens in all; this server takes {self.limits.tokens}")

    def _check_answer(self, size: int, instead: str) -> None:
        if size > self.limits.answer_bytes:
            raise InputError(
                f"the answer has {size} bytes; this server gives {self.limits.answer_bytes}: "
                f"ask for {instead}"
            )

    def _size(self, rows: int, width: int, outputs: Sequence[str] | None) -> int:
        """Bytes of the outputs for so many rows, padded to a width."""
        size = 0
        for name, _, shape in self.outputs():
            if outputs is None or name in outputs:
                per_row = width if self.manifest.head.is_per_token(name) else 1
                size += 4 * rows * per_row * max(1, shape[-1])
        return size

    def _batch(self, tensors: Sequence[Tensor], outputs: Sequence[str] | None) -> Any:
        given = {tensor.name: tensor for tensor in tensors}
        if len(given) != len(tensors):
            raise Malformed("an input is given twice")
        known = [name for name, _, _ in self.inputs()]
        for name in given:
            if name not in known:
                raise InputError(f"model {self.name} has no input {name[:60]!r}; it has {', '.join(known)}")
        fewer = "fewer rows or outputs, or rows of like length together"
        if TEXT in given or TEXT_PAIR in given:
            rows = self._texts(given)
            self._check_answer(self._size(len(rows), self._width(rows, outputs), outputs), fewer)
            return rows
        arrays = self._ids(given)
        for values in arrays.values():
            width = values.shape[-1]
            self._check_answer(self._size(values.size // max(1, width), width, outputs), fewer)
        return arrays

    def _width(self, rows: Sequence[Any], outputs: Sequence[str] | None) -> int:
        """Tokens of the longest text at most, counted only where that makes a difference."""
        longest = self.manifest.config.max_position_embeddings
        width = min(longest, max((sum(map(len, _strings([row]))) for row in rows), default=0) + 3)
        if self._size(len(rows), width, outputs) <= self.limits.answer_bytes:
            return width
        counts = iter(self.predictor.count_tokens(list(_strings(rows))))
        return min(longest, max(sum(next(counts) for _ in _strings([row])) for row in rows) + 3)

    def _ids(self, given: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
        arrays = {}
        for name, tensor in given.items():
            if isinstance(tensor.values, list) or tensor.values.dtype.kind != "i":
                raise InputError(f"input {name} has datatype {tensor.datatype}; INT64 or INT32 is needed")
            if tensor.values.size > self.limits.tokens:
                raise InputError(
                    f"input {name} has {tensor.values.size} tokens; this server takes {self.limits.tokens}"
                )
            arrays[name] = tensor.values.astype(np.int64, copy=False)
        return arrays

    def _texts(self, given: Mapping[str, Tensor]) -> list[Any]:
        columns = []
        for name in (TEXT, TEXT_PAIR):
            if name not in given:
                continue
            tensor = given[name]
            if not isinstance(tensor.values, list):
                raise InputError(f"input {name} has datatype {tensor.datatype}; BYTES is needed")
            if tensor.shape[1:] not in ((), (1,)):
                raise InputError(f"input {name} has shape {list(tensor.shape)}; [B] or [B, 1] is needed")
            columns.append(tensor.values)
        if TEXT not in given or len(given) != len(columns):
            raise InputError(f"give {TEXT}, and {TEXT_PAIR} for pairs, without token ids beside it")
        if len(columns) == 2 and len(columns[0]) != len(columns[1]):
            raise InputError(f"{len(columns[0])} texts have {len(columns[1])} pairs; give as many")
        rows = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
        self.check_texts(rows)
        return rows


class Models:
    """All models of a server by name and version."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._models: dict[str, dict[str, Model]] = {}

    def load(self, path: str, **options: Any) -> Model:
        """Open an artifact; a second one of a name is version 2. ArtifactError if it has no manifest."""
        predictor = Predictor(path, **options)
        if predictor.manifest is None:
            raise ArtifactError(f"{path} has no manifest, which a server needs; export the model again")
        versions = self._models.setdefault(predictor.manifest.name, {})
        version = str(len(versions) + 1)
        model = Model(predictor.manifest.name, version, predictor, predictor.manifest, self._limits)
        versions[version] = model
        return model

    def __iter__(self) -> Iterator[Model]:
        return (model for versions in self._models.values() for model in versions.values())

    def versions(self, name: str) -> list[str]:
        """The versions of a model, oldest first."""
        return list(self._models.get(name, ()))

    def find(self, name: str | None = None, version: str | None = None) -> Model:
        """The model, the latest version unless one is named; without a name the only one. NotFound."""
        if name is None:
            if len(self._models) > 1:
                raise NotFound(f"name one of the models {', '.join(self._models)}")
            name = next(iter(self._models))
        versions = self._models.get(name)
        if versions is None:
            raise NotFound(f"there is no model {name[:100]!r}; there is {', '.join(self._models)}")
        if not version:
            return next(reversed(versions.values()))
        if version not in versions:
            raise NotFound(f"model {name} has no version {version[:20]!r}; it has {', '.join(versions)}")
        return versions[version]

    def close(self, *, cancel: bool = False) -> None:
        """Answer what was accepted, or with ``cancel`` give it up."""
        for model in self:
            model.predictor.scheduler.close(cancel=cancel)


def _strings(items: Iterable[Any]) -> Iterator[str]:
    """All strings in nested lists."""
    for item in items:
        if isinstance(item, str):
            yield item
        elif isinstance(item, list | tuple):
            yield from _strings(item)
