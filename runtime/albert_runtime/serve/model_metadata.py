"""Which tensors a model takes and returns, as the Open Inference Protocol describes them."""

from typing import NamedTuple

from ..artifact.manifest import Manifest
from ..artifact.tasks import (
    END_LOGITS,
    HIDDEN_STATES,
    INPUTS,
    LAST_HIDDEN_STATE,
    LOGITS,
    MULTIPLE_CHOICE,
    POOLED_OUTPUT,
    PREDICTION_SCORES,
    SENTENCE_EMBEDDING,
    SOP_LOGITS,
    START_LOGITS,
)
from .tensors import BYTES

TEXT, TEXT_PAIR = "text", "text_pair"
PLATFORM = "albert_runtime"
# Of Triton's protocol extensions, those that this server has.
EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "statistics")


class TensorMetadata(NamedTuple):
    """A tensor's name, datatype and shape; -1 marks a size that may vary."""

    name: str
    datatype: str
    shape: list[int]


def input_metadata(manifest: Manifest, *, reads_texts: bool) -> list[TensorMetadata]:
    """The inputs of a model, with text inputs if it has a tokenizer (``reads_texts``)."""
    shape = [-1] * (3 if manifest.task == MULTIPLE_CHOICE else 2)
    ids = [TensorMetadata(name, "INT64", shape) for name in INPUTS]
    # A question and all its choices do not fit into two columns of texts; /predict takes them.
    if not reads_texts or manifest.task == MULTIPLE_CHOICE:
        return ids
    return [*ids, TensorMetadata(TEXT, BYTES, [-1]), TensorMetadata(TEXT_PAIR, BYTES, [-1])]


def output_metadata(manifest: Manifest) -> list[TensorMetadata]:
    """The outputs of a model."""
    config, head = manifest.config, manifest.head
    is_multiple_choice = manifest.task == MULTIPLE_CHOICE
    trailing_sizes = {
        LAST_HIDDEN_STATE: [config.hidden_size],
        HIDDEN_STATES: [config.num_hidden_layers + 1, config.hidden_size],
        POOLED_OUTPUT: [config.hidden_size],
        SENTENCE_EMBEDDING: [manifest.embedding_size],
        PREDICTION_SCORES: [config.vocab_size],
        START_LOGITS: [],
        END_LOGITS: [],
        SOP_LOGITS: [2],
        LOGITS: [] if is_multiple_choice else [head.num_labels],
    }
    return [
        TensorMetadata(
            name,
            "FP32",
            [*([-1, -1] if head.is_per_token(name) or is_multiple_choice else [-1]), *trailing_sizes[name]],
        )
        for name in manifest.outputs
    ]
