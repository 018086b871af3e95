"""The ONNX graph of an ALBERT model, written directly over onnx.helper.

The unrolled layers name the same initializers, and every initializer of the model is a byte range of the
Paddle weight file beside the graph. Only shapes and scalars lie in the graph itself.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.artifact.tasks import (
    HIDDEN_STATES,
    INPUTS,
    MULTIPLE_CHOICE,
    PRETRAINING,
    QUESTION_ANSWERING,
    SENTENCE_EMBEDDING,
    TOKEN_CLASSIFICATION,
    Head,
)
from albert_runtime.artifact.tensor_table import TensorRecord

from .errors import ExportError
from .onnx_encoder import Encoder
from .onnx_nodes import TYPES, Numbers
from .onnx_sentence import SentenceNodes
from .precision import stored_shapes

# Opset 20 is the first with Gelu (erf and tanh form). IR 9 is what opset 20 came with.
OPSET = 20
_IR_VERSION = 9


def write_onnx(
    path: Path,
    config: AlbertConfig,
    head: Head,
    numbers: Numbers,
    tensors: Sequence[TensorRecord],
    weights_name: str,
    version: str,
) -> None:
    """Write the graph to ``path``, its weights being ranges of ``weights_name`` in the same folder.

    The written file is checked in full, shapes and weight references included; ExportError if it fails.
    """
    model = build_graph(config, head, numbers, tensors, weights_name, version)
    path.write_bytes(model.SerializeToString())
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{path.name} did not pass onnx.checker: {error}") from None
    external = {item.name for item in model.graph.initializer if item.data_location == TensorProto.EXTERNAL}
    if external != stored_shapes(config, head, numbers.precision).keys():
        raise ExportError(f"internal: {path.name} does not name every tensor of the weight file exactly once")


def build_graph(
    config: AlbertConfig,
    head: Head,
    numbers: Numbers,
    tensors: Iterable[TensorRecord],
    weights_name: str,
    version: str,
) -> onnx.ModelProto:
    """The model: int64 [batch, sequence] inputs, float32 outputs as the manifest names them.

    Inputs of multiple choice are [batch, choices, sequence].
    """
    graph = _ModelGraph(config, head, numbers)
    graph.build()
    many = head.task == MULTIPLE_CHOICE
    inputs = ["batch", "choices", "sequence"] if many else ["batch", "sequence"]
    shapes = _output_shapes(config, head)
    proto = helper.make_graph(
        graph.nodes,
        "albert",
        [helper.make_tensor_value_info(name, TensorProto.INT64, inputs) for name in INPUTS],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [_external(tensor, weights_name) for tensor in tensors] + list(graph.constants.values()),
        value_info=graph.shapes,
    )
    return helper.make_model(
        proto,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
        producer_name="albert-runtime",
        producer_version=version,
    )


def _output_shapes(config: AlbertConfig, head: Head) -> dict[str, list[str | int]]:
    tokens: list[str | int] = ["batch", "sequence"]
    per_token = head.task == TOKEN_CLASSIFICATION
    columns = "choices" if head.task == MULTIPLE_CHOICE else head.num_labels
    shapes: dict[str, list[str | int]] = {
        "last_hidden_state": [*tokens, config.hidden_size],
        "pooled_output": ["batch", config.hidden_size],
        SENTENCE_EMBEDDING: [
            "batch",
            0 if head.sentence is None else head.sentence.width(config.hidden_size),
        ],
        "prediction_scores": [*tokens, config.vocab_size],
        "logits": [*tokens, columns] if per_token else ["batch", columns],
        "start_logits": tokens,
        "end_logits": tokens,
        "sop_logits": ["batch", 2],
        HIDDEN_STATES: [*tokens, config.num_hidden_layers + 1, config.hidden_size],
    }
    return {name: shapes[name] for name in head.outputs(config)}


def _external(tensor: TensorRecord, weights_name: str) -> TensorProto:
    proto = TensorProto(
        name=tensor.name,
        data_type=TYPES[tensor.dtype],
        dims=tensor.shape,
        data_location=TensorProto.EXTERNAL,
    )
    for key, value in (("location", weights_name), ("offset", tensor.offset), ("length", tensor.length)):
        proto.external_data.add(key=key, value=str(value))
    return proto


class _ModelGraph(Encoder, SentenceNodes):
    """Builds the whole model: the encoder and the head of its task."""

    def build(self) -> None:
        """The encoder and the task's head, down to the outputs."""
        task = self.head.task
        if task == MULTIPLE_CHOICE:
            self.flatten_choices()
        hidden, pooled = self.encode()
        if self.head.sentence is not None:
            self.embed_sentence(self.head.sentence, hidden)
        if self.head.reads_vocabulary:
            self.score_vocabulary(hidden)
        if task == PRETRAINING:
            self.classify("sop_logits", "sop", pooled)
        elif task == QUESTION_ANSWERING:
            spans = self.classify("spans_bias", "spans", hidden)
            for column, name in enumerate(("start_logits", "end_logits")):
                self.add("Gather", name, spans, self.constant(name, column, np.int64), axis=2)
        elif task == MULTIPLE_CHOICE:
            rows = self.classify("classifier_bias", "classifier", pooled)
            shape = self.add("Shape", "choices/shape", "input_ids", start=0, end=2)
            self.add("Reshape", "logits", rows, shape)
        elif self.head.classifier:
            self.classify("logits", "classifier", hidden if task == TOKEN_CLASSIFICATION else pooled)

    def flatten_choices(self) -> None:
        """[batch, choices, sequence] to [rows, sequence]: every choice is a row of its own."""
        for name in INPUTS:
            self.inputs[name] = self.add("Flatten", f"choices/{name}", name, axis=2)
            self.known(self.inputs[name], TensorProto.INT64, ["rows", "sequence"])

    def score_vocabulary(self, hidden: str) -> None:
        """prediction_scores. Gemm reads a decoder [V, E] as stored: a Transpose would be a second copy."""
        config, head = self.config, self.head
        dense = self.linear("predictions/dense", self.narrowed(hidden), "predictions.dense")
        active = self.activation("predictions/activation", dense)
        normal = self.layer_norm(
            "predictions/norm", self.widened(active), "predictions.layer_norm", head.decoder_norm_eps
        )
        features = self.narrowed(normal)
        tokens = self.constant("token_rows", [-1, config.embedding_size], np.int64)
        flat = self.add("Reshape", "predictions/tokens", features, tokens)
        words = "embeddings.word_embeddings.weight"
        decoder = words if head.tied_decoder else "predictions.decoder.weight"
        table = self.dequantized("predictions/decoder", decoder, axis=0)
        scores = self.add("Gemm", "predictions/decoder", flat, table, "predictions.bias", transB=1)
        rows = self.constant("any", [-1], np.int64)
        columns = self.constant("vocabulary", [config.vocab_size], np.int64)
        shape = self.add("Concat", "predictions/shape", rows, "embeddings/length", columns, axis=0)
        self.output("Reshape", "prediction_scores", scores, shape)

    def classify(self, result: str, name: str, x: str) -> str:
        """The output ``result``: the classifier on x, which is wide."""
        weights = self.head.classifier
        return self.output("Add", result, self.product(name, self.narrowed(x), weights), f"{weights}.bias")
