"""One version of a model: what it answers to a request."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact.manifest import Manifest
from ..artifact.tasks import MULTIPLE_CHOICE
from ..backends.base import Outputs
from ..errors import InputError
from ..predictor import Predictor
from ..text.registry import method_of_task
from .errors import MalformedRequest
from .limits import ServerLimits
from .model_metadata import TEXT, TEXT_PAIR, TensorMetadata, input_metadata, output_metadata
from .request_limits import RequestLimits
from .tensors import BYTES, Tensor

_WARM_UP_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Model:
    """One version of a model."""

    name: str
    version: str
    predictor: Predictor
    manifest: Manifest
    limits: ServerLimits

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

    async def infer(self, tensors: Sequence[Tensor], outputs: Sequence[str] | None) -> Outputs:
        """Run the model on the input tensors of a request.

        Args:
            tensors: Token ids, mask and token types, or texts and perhaps their pairs.
            outputs: Names of the outputs wanted; None for all.

        Returns:
            A float32 array for each output.

        Raises:
            MalformedRequest: An input is given more than once.
            InputError: The inputs do not fit this model, or exceed a limit of the server.
        """
        if any(tensor.datatype == BYTES for tensor in tensors):
            batch = await asyncio.to_thread(self._batch, tensors, outputs)
        else:
            batch = self._batch(tensors, outputs)
        return await self.predictor.arun(batch, outputs)

    async def answer(self, items: Sequence[Any], **options: Any) -> list[Any]:
        """Answer texts with the method for this model's task.

        Args:
            items: What that method takes: texts, pairs, (question, context) or (prompt, choices).
            **options: Options of that method, such as ``top_k``.

        Returns:
            One answer for each item, in order.

        Raises:
            InputError: An item or option does not fit this model, or exceeds a limit of the server.
        """
        await asyncio.to_thread(self._check_items, items, options)
        return [answer async for answer in self.predictor.astream(self.method, items, **options)]

    @property
    def _request_limits(self) -> RequestLimits:
        return RequestLimits(self.limits, self.predictor, self.manifest)

    def _check_items(self, items: Sequence[Any], options: Mapping[str, Any]) -> None:
        if self.manifest.task == MULTIPLE_CHOICE:
            # The prompt is computed once more with each choice.
            items = [(prompt, choice) for prompt, choices in items for choice in choices]
        self._request_limits.check_texts(items)
        if self.method == "fill_mask":
            self._request_limits.check_mask_candidates(items, options.get("top_k"))

    def _batch(self, tensors: Sequence[Tensor], outputs: Sequence[str] | None) -> Any:
        """What ``Predictor.run`` takes, made of a request's tensors."""
        by_name = {tensor.name: tensor for tensor in tensors}
        if len(by_name) != len(tensors):
            raise MalformedRequest("an input is given more than once")
        known = [name for name, _, _ in self.inputs()]
        for name in by_name:
            if name not in known:
                raise InputError(f"model {self.name} has no input {name[:60]!r}; it has {', '.join(known)}")
        if TEXT in by_name or TEXT_PAIR in by_name:
            texts = self._texts(by_name)
            self._request_limits.check_outputs_of_texts(texts, outputs)
            return texts
        arrays = self._id_arrays(by_name)
        for values in arrays.values():
            width = values.shape[-1]
            self._request_limits.check_outputs(values.size // max(1, width), width, outputs)
        return arrays

    def _id_arrays(self, tensors: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
        arrays = {}
        for name, tensor in tensors.items():
            if isinstance(tensor.values, list) or tensor.values.dtype.kind != "i":
                raise InputError(f"input {name} has datatype {tensor.datatype}; give INT64 or INT32")
            self._request_limits.check_token_count(name, tensor.values.size)
            arrays[name] = tensor.values.astype(np.int64, copy=False)
        return arrays

    def _texts(self, tensors: Mapping[str, Tensor]) -> list[Any]:
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
        self._request_limits.check_texts(rows)
        return rows
