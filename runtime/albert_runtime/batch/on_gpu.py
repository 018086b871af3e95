"""Arrays that are on a GPU already, known by the DLPack protocol: tensors of torch, cupy, paddle, jax..."""

from collections.abc import Mapping
from typing import Any

from ..artifact.tasks import INPUTS
from ..errors import InputError

_CUDA = 2  # kDLCUDA of dlpack.h


def is_on_gpu(batch: object) -> bool:
    """Whether the batch is a mapping with an array on a GPU."""
    return isinstance(batch, Mapping) and any(map(_lies_on_gpu, batch.values()))


def _lies_on_gpu(value: object) -> bool:
    where = getattr(value, "__dlpack_device__", None)
    return callable(where) and int(where()[0]) == _CUDA


def gpu_arrays(batch: Mapping[Any, Any]) -> dict[str, Any]:
    """The batch by the model's names; InputError unless ids, mask and perhaps types are all on the GPU."""
    arrays = {name: values for name, values in batch.items() if values is not None}
    for name, values in arrays.items():
        if name not in INPUTS:
            raise InputError(f"the batch has an unknown key {name!r}; known are {', '.join(INPUTS)}")
        if not _lies_on_gpu(values):
            raise InputError(f"{name} is not on the GPU, others are; put all on it or none")
    for name in INPUTS[:2]:
        if name not in arrays:
            raise InputError(f"a batch on a GPU needs {name} there; give input_ids and attention_mask")
    return arrays
