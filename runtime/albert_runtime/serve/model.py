"""One version of a model: what it answers to a request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from ..artifact.manifest import Manifest
from ..artifact.tasks import (
    MULTIPLE_CHOICE,
    QUESTION_ANSWERING,
    SEQUENCE_CLASSIFICATION,
    TOKEN_CLASSIFICATION,
)
from ..backends.base import Outputs
from ..errors import InputError, Overloaded
from ..predictor import Predictor
from ..text.long_texts import LONG_TEXTS, count_characters
from ..text.registry import method_of_task
from .errors import MalformedRequest
from .limits import ServerLimits
from .model_metadata import TEXT, TEXT_PAIR, TensorMetadata, input_metadata, output_metadata
from .request_limits import RequestLimits
from .tensors import BYTES, Tensor

_WARM_UP_TOKENS = 16


class Answers(NamedTuple):
    """The answers to a request, and the tokens that the model was given for them, special ones included."""

    answers: list[Any]
    tokens: int


@dataclass(frozen=True, slots=True)
class Model:
    """One version of a model.

    ``predecessors`` are the Predictors that it has replaced, as long as requests to them are in progress.
    """

    name: str
    version: str
    predictor: Predictor
    manifest: Manifest
    limits: ServerLimits
    predecessors: WeakSet[Predictor] = field(default_factory=WeakSet, compare=False)

    @property
    def method(self) -> str:
        """The Predictor method that answers texts for this model's task, such as "classify"."""
        return method_of_task(self.manifest.task)

    @property
    def label(self) -> str:
        """The model's name in metrics, logs and traces: NAME, or NAME/VERSION from version 2 on."""
        return self.name if self.version == "1" else f"{self.name}/{self.version}"

    def warm_up(self) -> None:
        """Run the model once, so that the first request finds threads and memory ready."""
        row = [1] * min(_WARM_UP_TOKENS, self.manifest.config.max_position_embeddings)
        batch: Any = [[row, row]] if self.manifest.task == MULTIPLE_CHOICE else [row]
        self.predictor.submit(batch).result()

    def inputs(self) -> list[TensorMetadata]:
        """Name, datatype and shape of each input."""
        return input_metadata(self.manifest, reads_texts=self.predictor.reads_texts)

    def outputs(self) -> list[TensorMetadata]:
        """Name, datatype and shape of each output."""
        return output_metadata(self.manifest)

    async def infer(
        self, tensors: Sequence[Tensor], outputs: Sequence[str] | None, truncate: bool | None = None
    ) -> Outputs:
        """Run the model on the input tensors of a request.

        Args:
            tensors: Token ids, mask and token types, or texts and perhaps their pairs.
            outputs: Names of the outputs wanted; None for all.
            truncate: Whether rows that are too long are cut; None for the server's default.

        Returns:
            A float32 array for each output.

        Raises:
            MalformedRequest: An input is given more than once.
            InputError: The inputs do not fit this model, or exceed a limit of the server.
        """
        self._check_queue()
        cut = self.limits.truncate if truncate is None else truncate
        texts = [tensor.values for tensor in tensors if tensor.datatype == BYTES]
        if texts:
            batch = await LONG_TEXTS.run(count_characters(texts), self._batch, tensors, outputs, cut)
        else:
            batch = self._batch(tensors, outputs, cut)
        return await self.predictor.arun(batch, outputs, truncate=cut)

    async def answer(self, items: Sequence[Any], truncate: bool | None = None, **options: Any) -> Answers:
        """Answer texts with the method for this model's task.

        Args:
            items: What that method takes: texts, pairs, (question, context) or (prompt, choices).
            truncate: Whether texts that are too long are cut; None for the server's default.
            **options: Other options of that method, such as ``top_k``.

        Returns:
            One answer for each item, in order.

        Raises:
            InputError: An item or option does not fit this model, or exceeds a limit of the server.
        """
        self._check_queue()
        cut = self._truncate(truncate)
        await LONG_TEXTS.run(count_characters(items), self._check_items, items, cut, options)
        if cut is not None and self.manifest.task != QUESTION_ANSWERING:
            options["truncate"] = cut
        stream = self.predictor.astream(self.method, items, **options)
        return Answers([answer async for answer in stream], stream.tokens)

    async def rerank(
        self, query: str, documents: Sequence[str], truncate: bool | None, top_n: int | None
    ) -> Answers:
        """Order documents by their relevance to a query.

        Args:
            query: The query.
            documents: The documents.
            truncate: Whether texts that are too long are cut; None for the server's default.
            top_n: How many documents to return; None for all.

        Returns:
            What Predictor.rerank returns.

        Raises:
            InputError: The model or a text does not fit, or the request exceeds a limit of the server.
        """
        self._check_queue()
        cut = self._truncate(truncate)
        pairs = self.manifest.task == SEQUENCE_CLASSIFICATION
        items = [(query, document) for document in documents] if pairs else [query, *documents]
        await LONG_TEXTS.run(count_characters(items), self._check_items, items, cut, {})
        return Answers(*await self.predictor.arerank(query, documents, top_n=top_n, truncate=cut))

    def _truncate(self, asked: bool | None) -> bool | None:
        """Whether to cut texts; None for the method's own default."""
        if asked is not None:
            return asked
        # Texts of any length are tagged whole, so that no default has to cut them.
        return True if self.limits.truncate and self.manifest.task != TOKEN_CLASSIFICATION else None

    def _check_queue(self) -> None:
        """Refuse a request while those of predecessors fill the queue: one model has the bound of one."""
        before = sum(predictor.scheduler.unanswered for predictor in self.predecessors)
        scheduler = self.predictor.scheduler
        if before and before + scheduler.unanswered >= scheduler.max_queue:
            raise Overloaded(f"{scheduler.max_queue} requests wait already; try again later")

    @property
    def _request_limits(self) -> RequestLimits:
        return RequestLimits(self.limits, self.predictor, self.manifest)

    def _check_items(self, items: Sequence[Any], truncate: bool | None, options: Mapping[str, Any]) -> None:
        task = self.manifest.task
        if task == MULTIPLE_CHOICE:
            # The prompt is computed once more with each choice.
            items = [(prompt, choice) for prompt, choices in items for choice in choices]
        runs_in_windows = task == QUESTION_ANSWERING or (task == TOKEN_CLASSIFICATION and not truncate)
        prompt = self._prompt(options.get("prompt_name"))
        texts = [(prompt, item) for item in items if not is_token_ids(item)]
        self._request_limits.check_texts(texts, None if runs_in_windows else self._longest(truncate))
        ids = [item for item in items if is_token_ids(item)]
        self._request_limits.check_token_count("input", sum(map(len, ids)))
        if self.method == "fill_mask":
            self._request_limits.check_mask_candidates(items, options.get("top_k"))

    def _prompt(self, name: str | None) -> str:
        """The prompt that is computed with every text; "" if there is none."""
        texts = self.manifest.sentence_texts
        return "" if texts is None else texts.prompts.get(name or texts.default_prompt_name or "", "")

    def _longest(self, truncate: bool | None) -> int:
        """Tokens of a text that are computed at most, or one more than fit, if a longer text is refused."""
        positions = self.manifest.config.max_position_embeddings
        cut = self.manifest.sentence_texts is not None if truncate is None else truncate
        return min(positions, self.manifest.max_length or positions) if cut else positions + 1

    def _batch(self, tensors: Sequence[Tensor], outputs: Sequence[str] | None, truncate: bool) -> Any:
        """What ``Predictor.run`` takes, made of a request's tensors."""
        by_name = {tensor.name: tensor for tensor in tensors}
        if len(by_name) != len(tensors):
            raise MalformedRequest("an input is given more than once")
        known = [name for name, _, _ in self.inputs()]
        for name in by_name:
            if name not in known:
                raise InputError(f"model {self.name} has no input {name[:60]!r}; it has {', '.join(known)}")
        if TEXT in by_name or TEXT_PAIR in by_name:
            texts = self._texts(by_name, truncate)
            self._request_limits.check_outputs_of_texts(texts, outputs)
            return texts
        arrays = self._id_arrays(by_name, truncate)
        for values in arrays.values():
            width = values.shape[-1]
            self._request_limits.check_outputs(values.size // max(1, width), width, outputs)
        return arrays

    def _id_arrays(self, tensors: Mapping[str, Tensor], truncate: bool) -> dict[str, NDArray[Any]]:
        arrays = {}
        for name, tensor in tensors.items():
            if isinstance(tensor.values, list) or tensor.values.dtype.kind != "i":
                raise InputError(f"input {name} has datatype {tensor.datatype}; give INT64 or INT32")
            values = tensor.values
            if truncate:
                values = values[..., : self.manifest.config.max_position_embeddings]
            self._request_limits.check_token_count(name, values.size)
            arrays[name] = values.astype(np.int64, copy=False)
        return arrays

    def _texts(self, tensors: Mapping[str, Tensor], truncate: bool) -> list[Any]:
        columns = []
        for name in (TEXT, TEXT_PAIR):
            if name not in tensors:
                continue
            tensor = tensors[name]
            if not isinstance(tensor.values, list):
                raise InputError(f"input {name} has datatype {tensor.datatype}; give BYTES")
            if tensor.shape[1:] not in ((), (1,)):
                raise InputError(f"input {name} has shape {list(tensor.shape)}; give [B] or [B, 1]")
            columns.append(tensor.values)
        if TEXT not in tensors or len(tensors) != len(columns):
            raise InputError(f"give {TEXT}, with {TEXT_PAIR} for pairs, and no token ids beside it")
        if len(columns) == 2 and len(columns[0]) != len(columns[1]):
            raise InputError(
                f"{TEXT} has {len(columns[0])} rows, {TEXT_PAIR} has {len(columns[1])}; give as many of each"
            )
        rows = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
        self._request_limits.check_texts(rows, self._longest(truncate))
        return rows


def is_token_ids(item: object) -> bool:
    """Whether an item is a list of token ids."""
    return isinstance(item, list) and bool(item) and isinstance(item[0], int)
