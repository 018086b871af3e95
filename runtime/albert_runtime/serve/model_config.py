"""A model's configuration, as Triton's model configuration extension gives it."""

from typing import Any

from .model import Model
from .model_metadata import PLATFORM, TEXT, TensorMetadata

_DATA_TYPES = {"INT64": "TYPE_INT64", "FP32": "TYPE_FP32", "BYTES": "TYPE_STRING"}
_GPU_BACKENDS = ("tensorrt", "gpu", "cuda")


def model_config(model: Model) -> dict[str, Any]:
    """The fields of Triton's ModelConfig that say something about this model, ready for JSON.

    Requests may leave out any input but one of input_ids and text, so all are optional where the model takes
    texts. Tensors are described without their first dimension, the batch.
    """
    takes_texts = any(one.name == TEXT for one in model.inputs())
    kind = "KIND_GPU" if model.predictor.backend in _GPU_BACKENDS else "KIND_CPU"
    inputs = [
        {
            **_tensor(one),
            "format": "FORMAT_NONE",
            "is_shape_tensor": False,
            "allow_ragged_batch": False,
            "optional": takes_texts or one.name != "input_ids",
        }
        for one in model.inputs()
    ]
    return {
        "name": model.name,
        "platform": PLATFORM,
        "backend": PLATFORM,
        "version_policy": {"all": {}},
        "max_batch_size": model.limits.max_texts,
        "input": inputs,
        "output": [
            {**_tensor(one), "label_filename": "", "is_shape_tensor": False} for one in model.outputs()
        ],
        "dynamic_batching": {"preferred_batch_size": [], "preserve_ordering": False},
        "instance_group": [{"name": model.label, "kind": kind, "count": 1, "gpus": [], "profile": []}],
        "model_transaction_policy": {"decoupled": False},
    }


def _tensor(tensor: TensorMetadata) -> dict[str, Any]:
    found = {"name": tensor.name, "data_type": _DATA_TYPES[tensor.datatype], "dims": tensor.shape[1:]}
    if not tensor.shape[1:]:
        # Triton's dims are never empty: [B] is described as [B, 1] that the model reads as [B].
        return {**found, "dims": [1], "reshape": {"shape": []}}
    return found
