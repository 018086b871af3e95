"""The ONNX graph of an ALBERT model, written directly over onnx.helper.

The unrolled layers name the same initializers, and every initializer of the model is a byte range of the
Paddle weight file beside the graph. Only shapes and scalars lie in the graph itself.

In 16 bits the matrices, the tables and what they multiply and give are of that type. All else is wide,
float32, as in the Paddle model: LayerNormalization, Softmax, the mask, residuals and outputs.

In int8 the matrices are integers with a DequantizeLinear at each use, which execution providers fuse with
the MatMul behind it. What the layers' matrices multiply goes through QuantizeLinear and DequantizeLinear,
symmetric, with a range of its own at every depth. The other products, a thousandth of the work, take float32.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from albert_runtime.artifact.config import AlbertConfig, layer_prefix
from albert_runtime.artifact.tasks import (
    HIDDEN_STATES,
    INPUTS,
    MODEL,
    MULTIPLE_CHOICE,
    PRETRAINING,
    QUESTION_ANSWERING,
    TOKEN_CLASSIFICATION,
    Head,
)
from albert_runtime.artifact.tensor_table import SCALE, TensorRecord

from .errors import ExportError
from .precision import Precision, stored_shapes

# Opset 20 is the first with Gelu (erf and tanh form). IR 9 is what opset 20 came with.
OPSET = 20
_IR_VERSION = 9
_MASKED = -10000.0
# What was zero on all of the calibration text still needs a scale.
_LEAST_RANGE = 1e-6
_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "int8": TensorProto.INT8,
}


@dataclass(frozen=True)
class Numbers:
    """How a graph computes: its precision, and for int8 the greatest absolute inputs of the layers' matrices.

    ``ranges`` has one for each use of a matrix, in order: by depth.
    """

    precision: Precision
    ranges: Mapping[str, Sequence[float]] = field(default_factory=dict)


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
    graph = _Graph(config, head, numbers)
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
        data_type=_TYPES[tensor.dtype],
        dims=tensor.shape,
        data_location=TensorProto.EXTERNAL,
    )
    for key, value in (("location", weights_name), ("offset", tensor.offset), ("length", tensor.length)):
        proto.external_data.add(key=key, value=str(value))
    return proto


class _Graph:
    """Nodes in order, and the small constants they use. A node and its one output share a readable name."""

    def __init__(self, config: AlbertConfig, head: Head, numbers: Numbers) -> None:
        self.config, self.head, self.ranges = config, head, numbers.ranges
        precision = numbers.precision
        self.narrow, self.quantized = precision.narrow, precision.quantized
        self.type = _TYPES[precision.dtype] if precision.narrow else TensorProto.FLOAT
        self.uses: Counter[str] = Counter()
        self.readers: Counter[str] = Counter()  # of what is rounded
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self.shapes: list[onnx.ValueInfoProto] = []
        # Tensors [rows, sequence]: the inputs themselves, but for multiple choice.
        self.inputs = {name: name for name in INPUTS}

    def add(self, operator: str, name: str, *inputs: str, **attributes: object) -> str:
        """Append a node and return its output's name."""
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: object, dtype: type[np.generic]) -> str:
        """A shape or scalar held in the graph, once per name."""
        full_name = f"constant/{name}"
        if full_name not in self.constants:
            self.constants[full_name] = numpy_helper.from_array(np.array(value, dtype), full_name)
        return full_name

    def known(self, name: str, dtype: int, shape: list[str | int]) -> None:
        """State a shape that shape inference cannot see."""
        # Else "sequence" is lost behind it, and ONNX Runtime fuses a residual with its LayerNormalization for
        # known shapes only.
        self.shapes.append(helper.make_tensor_value_info(name, dtype, shape))

    def widened(self, x: str) -> str:
        """x, which a matrix gave, in float32."""
        return self.add("Cast", f"{x}_wide", x, to=TensorProto.FLOAT) if self.narrow else x

    def narrowed(self, x: str) -> str:
        """x, which is float32, in the type of the matrices."""
        return self.add("Cast", f"{x}_narrow", x, to=self.type) if self.narrow else x

    def output(self, operator: str, name: str, *inputs: str, **attributes: object) -> str:
        """A node of the matrices' type; its result, in float32, has the name."""
        inner = self.add(operator, f"{name}_inner" if self.narrow else name, *inputs, **attributes)
        return self.add("Cast", name, inner, to=TensorProto.FLOAT) if self.narrow else inner

    def linear(self, name: str, x: str, weights: str) -> str:
        return self.add("Add", f"{name}_bias", self.product(name, x, weights), f"{weights}.bias")

    def classify(self, result: str, name: str, x: str) -> str:
        """The output ``result``: the classifier on x, which is wide."""
        weights = self.head.classifier
        return self.output("Add", result, self.product(name, self.narrowed(x), weights), f"{weights}.bias")

    def product(self, name: str, x: str, weights: str) -> str:
        matrix = f"{weights}.weight"
        if matrix in self.ranges:
            x = self.rounded(name, x, self.ranges[matrix][self.uses[matrix]])
            self.uses[matrix] += 1
        return self.add("MatMul", name, x, self.dequantized(name, matrix, axis=1))

    def dequantized(self, name: str, matrix: str, axis: int) -> str:
        """An int8 matrix, which has scales along ``axis``, for its use in the node ``name``."""
        if not self.quantized:
            return matrix
        return self.add("DequantizeLinear", f"{name}_weights", matrix, f"{matrix}{SCALE}", axis=axis)

    def rounded(self, name: str, x: str, greatest: float) -> str:
        """x as the nearest int8 multiple of ``greatest`` / 127, for its use in the node ``name``."""
        # On x86 ONNX Runtime fuses no product whose QuantizeLinear has other readers, and it merges equal
        # ones: so query, key and value have a pair each, with scales that differ in the last bit.
        step = np.float32(max(greatest, _LEAST_RANGE) / 127)
        for _ in range(self.readers[x]):
            step = np.nextafter(step, np.float32(np.inf))
        self.readers[x] += 1
        scale = self.constant(f"{name}_scale", step, np.float32)
        zero = self.constant("zero_point", 0, np.int8)
        integers = self.add("QuantizeLinear", f"{name}_quantized", x, scale, zero)
        return self.add("DequantizeLinear", f"{name}_input", integers, scale, zero)

    def layer_norm(self, name: str, x: str, weights: str, epsilon: float | None = None) -> str:
        """Wide in and out."""
        return self.add(
            "LayerNormalization",
            name,
            x,
            f"{weights}.weight",
            f"{weights}.bias",
            axis=-1,
            epsilon=self.config.layer_norm_eps if epsilon is None else epsilon,
        )

    def build(self) -> None:
        """The encoder and the task's head, down to the outputs."""
        task = self.head.task
        if task == MULTIPLE_CHOICE:
            self.flatten_choices()
        hidden, pooled = self.encode()
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

    def encode(self) -> tuple[str, str]:
        """Names of the hidden states and of the pooled output (empty without a pooler)."""
        config = self.config
        bare = self.head.task == MODEL
        x = self.embeddings()
        mask = self.mask()
        mapped = self.linear("embeddings/to_hidden", self.narrowed(x), "encoder.embedding_hidden_mapping_in")
        x = self.widened(mapped)
        states = [x]
        for layer in range(config.num_hidden_layers):
            for inner in range(config.inner_group_num):
                scope = f"layer{layer}" if config.inner_group_num == 1 else f"layer{layer}/inner{inner}"
                last = (layer + 1, inner + 1) == (config.num_hidden_layers, config.inner_group_num)
                prefix = layer_prefix(config.group_of_layer(layer), inner)
                result = "last_hidden_state" if bare and last else f"{scope}/output_norm"
                x = self.layer(scope, x, mask, prefix, result)
            states.append(x)
        if self.head.hidden_states:
            joined = self.add("Concat", "states/joined", *states, axis=-1)
            shape = self.constant("depths", [0, 0, len(states), config.hidden_size], np.int64)
            self.add("Reshape", HIDDEN_STATES, joined, shape)
        if not config.add_pooling_layer:
            return x, ""
        first = self.add("Gather", "pooler/first_token", x, self.constant("first", 0, np.int64), axis=1)
        dense = self.linear("pooler/dense", self.narrowed(first), "pooler")
        return x, self.output("Tanh", "pooled_output" if bare else "pooler/output", dense)

    def embeddings(self) -> str:
        config, input_ids = self.config, self.inputs["input_ids"]
        words = self.words(input_ids)
        if config.padding_idx is not None:
            padding = self.constant("padding_idx", config.padding_idx, np.int64)
            is_padding = self.add("Equal", "embeddings/is_padding", input_ids, padding)
            column = self.add(
                "Unsqueeze",
                "embeddings/is_padding_row",
                is_padding,
                self.constant("last_axis", [-1], np.int64),
            )
            zero = self.constant("zero", 0.0, np.float32)
            words = self.add("Where", "embeddings/words_kept", column, zero, self.widened(words))
        else:
            words = self.widened(words)
        types = self.add(
            "Gather",
            "embeddings/types",
            "embeddings.token_type_embeddings.weight",
            self.inputs["token_type_ids"],
        )
        length = self.add("Shape", "embeddings/length", input_ids, start=1, end=2)
        positions = self.add(
            "Slice",
            "embeddings/positions",
            "embeddings.position_embeddings.weight",
            self.constant("start", [0], np.int64),
            length,
            self.constant("start", [0], np.int64),
        )
        self.known(positions, self.type, ["sequence", config.embedding_size])
        words_types = self.add("Add", "embeddings/words_types", words, self.widened(types))
        total = self.add("Add", "embeddings/sum", words_types, self.widened(positions))
        return self.layer_norm("embeddings/norm", total, "embeddings.layer_norm")

    def words(self, input_ids: str) -> str:
        table = "embeddings.word_embeddings.weight"
        words = self.add("Gather", "embeddings/words", table, input_ids)
        if not self.quantized:
            return words
        # Not DequantizeLinear: that would be of the whole table.
        scales = self.add("Gather", "embeddings/words_scale", f"{table}{SCALE}", input_ids)
        last = self.constant("last_axis", [-1], np.int64)
        column = self.add("Unsqueeze", "embeddings/words_scale_column", scales, last)
        values = self.add("Cast", "embeddings/words_float", words, to=TensorProto.FLOAT)
        return self.add("Mul", "embeddings/words_scaled", values, column)

    def mask(self) -> str:
        """0 where a key counts and -10000 where it is masked, [batch, 1, 1, sequence]."""
        as_float = self.add("Cast", "mask/float", self.inputs["attention_mask"], to=TensorProto.FLOAT)
        masked = self.add("Sub", "mask/inverted", self.constant("one", 1.0, np.float32), as_float)
        bias = self.add("Mul", "mask/bias", masked, self.constant("masked", _MASKED, np.float32))
        return self.add("Unsqueeze", "mask/broadcast", bias, self.constant("head_axes", [1, 2], np.int64))

    def layer(self, scope: str, x: str, mask: str, prefix: str, result: str) -> str:
        attended = self.attention(f"{scope}/attention", x, mask, f"{prefix}attention.")
        inner = self.linear(f"{scope}/ffn", self.narrowed(attended), f"{prefix}ffn")
        active = self.activation(f"{scope}/activation", inner)
        outer = self.linear(f"{scope}/ffn_output", active, f"{prefix}ffn_output")
        total = self.add("Add", f"{scope}/residual", self.widened(outer), attended)
        return self.layer_norm(result, total, f"{prefix}full_layer_layer_norm")

    def activation(self, name: str, x: str) -> str:
        if self.config.hidden_act == "relu":
            return self.add("Relu", name, x)
        return self.add(
            "Gelu", name, x, approximate="tanh" if self.config.hidden_act == "gelu_new" else "none"
        )

    def attention(self, scope: str, x: str, mask: str, prefix: str) -> str:
        config = self.config
        # In a Reshape 0 keeps the dimension: no shape arithmetic is needed.
        split = self.constant("split_heads", [0, 0, config.num_attention_heads, config.head_size], np.int64)
        joined = self.constant("join_heads", [0, 0, config.hidden_size], np.int64)
        heads, narrow = {}, self.narrowed(x)
        for part, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
            flat = self.linear(f"{scope}/{part}", narrow, f"{prefix}{part}")
            reshaped = self.add("Reshape", f"{scope}/{part}_split", flat, split)
            heads[part] = self.add("Transpose", f"{scope}/{part}_heads", reshaped, perm=order)
        scores = self.add("MatMul", f"{scope}/scores", heads["query"], heads["key"])
        root = self.constant("root_head_size", float(np.sqrt(config.head_size)), np.float32)
        scaled = self.add("Div", f"{scope}/scaled", self.widened(scores), root)
        masked = self.add("Add", f"{scope}/masked", scaled, mask)
        weights = self.add("Softmax", f"{scope}/weights", masked, axis=-1)
        context = self.add("MatMul", f"{scope}/context", self.narrowed(weights), heads["value"])
        tokens = self.add("Transpose", f"{scope}/context_tokens", context, perm=[0, 2, 1, 3])
        merged = self.add("Reshape", f"{scope}/context_joined", tokens, joined)
        dense = self.linear(f"{scope}/dense", merged, f"{prefix}dense")
        total = self.add("Add", f"{scope}/residual", x, self.widened(dense))
        return self.layer_norm(f"{scope}/norm", total, f"{prefix}layer_norm")
