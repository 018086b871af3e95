"""The ONNX graph of an ALBERT model, written directly over onnx.helper.

The unrolled layers name the same initializers, and every initializer of the model is a byte range of the
Paddle weight file beside the graph. Only shapes and scalars lie in the graph itself.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from albert_runtime.config import AlbertConfig, layer_prefix
from albert_runtime.manifest import INPUTS, TensorRecord, expected_outputs

from .errors import ExportError

# Opset 20 is the first with Gelu (erf and tanh form). IR 9 is what opset 20 came with.
OPSET = 20
_IR_VERSION = 9
_MASKED = -10000.0


def write_onnx(
    path: Path, config: AlbertConfig, tensors: Sequence[TensorRecord], weights_name: str, version: str
) -> None:
    """Write the graph to ``path``, its weights being ranges of ``weights_name`` in the same folder.

    The written file is checked in full, shapes and weight references included; ExportError if it fails.
    """
    model = build_graph(config, tensors, weights_name, version)
    path.write_bytes(model.SerializeToString())
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{path.name} did not pass onnx.checker: {error}") from None
    external = {item.name for item in model.graph.initializer if item.data_location == TensorProto.EXTERNAL}
    if external != config.tensor_shapes().keys():
        raise ExportError(f"internal: {path.name} does not name every tensor of the weight file exactly once")


def build_graph(
    config: AlbertConfig, tensors: Iterable[TensorRecord], weights_name: str, version: str
) -> onnx.ModelProto:
    """The model: int64 [batch, sequence] inputs, float32 outputs as the manifest names them."""
    graph = _Graph(config)
    graph.encode()
    hidden = ["batch", "sequence", config.hidden_size]
    shapes = {"last_hidden_state": hidden, "pooled_output": ["batch", config.hidden_size]}
    proto = helper.make_graph(
        graph.nodes,
        "albert",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in INPUTS],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name])
            for name in expected_outputs(config)
        ],
        [_external(tensor, weights_name) for tensor in tensors] + list(graph.constants.values()),
        # Shape inference cannot see how long the slice of the position table is; without this, "sequence" is
        # lost behind it, and ONNX Runtime fuses a residual with its LayerNormalization for known shapes only.
        value_info=[
            helper.make_tensor_value_info(
                "embeddings/positions", TensorProto.FLOAT, ["sequence", config.embedding_size]
            )
        ],
    )
    return helper.make_model(
        proto,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
        producer_name="albert-runtime",
        producer_version=version,
    )


def _external(tensor: TensorRecord, weights_name: str) -> TensorProto:
    proto = TensorProto(
        name=tensor.name,
        data_type=TensorProto.FLOAT,
        dims=tensor.shape,
        data_location=TensorProto.EXTERNAL,
    )
    for key, value in (("location", weights_name), ("offset", tensor.offset), ("length", tensor.length)):
        proto.external_data.add(key=key, value=str(value))
    return proto


class _Graph:
    """Nodes in order, and the small constants they use. A node and its one output share a readable name."""

    def __init__(self, config: AlbertConfig) -> None:
        self.config = config
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, TensorProto] = {}

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

    def linear(self, name: str, x: str, weights: str) -> str:
        product = self.add("MatMul", name, x, f"{weights}.weight")
        return self.add("Add", f"{name}_bias", product, f"{weights}.bias")

    def layer_norm(self, name: str, x: str, weights: str) -> str:
        return self.add(
            "LayerNormalization",
            name,
            x,
            f"{weights}.weight",
            f"{weights}.bias",
            axis=-1,
            epsilon=self.config.layer_norm_eps,
        )

    def encode(self) -> None:
        config = self.config
        x = self.embeddings()
        mask = self.mask()
        x = self.linear("embeddings/to_hidden", x, "encoder.embedding_hidden_mapping_in")
        steps = [
            (layer, inner)
            for layer in range(config.num_hidden_layers)
            for inner in range(config.inner_group_num)
        ]
        for layer, inner in steps:
            scope = f"layer{layer}" if config.inner_group_num == 1 else f"layer{layer}/inner{inner}"
            last = (layer, inner) == steps[-1]
            prefix = layer_prefix(config.group_of_layer(layer), inner)
            x = self.layer(scope, x, mask, prefix, "last_hidden_state" if last else f"{scope}/output_norm")
        if config.add_pooling_layer:
            first = self.add("Gather", "pooler/first_token", x, self.constant("first", 0, np.int64), axis=1)
            self.add("Tanh", "pooled_output", self.linear("pooler/dense", first, "pooler"))

    def embeddings(self) -> str:
        config = self.config
        words = self.add("Gather", "embeddings/words", "embeddings.word_embeddings.weight", "input_ids")
        if config.padding_idx is not None:
            padding = self.constant("padding_idx", config.padding_idx, np.int64)
            is_padding = self.add("Equal", "embeddings/is_padding", "input_ids", padding)
            column = self.add(
                "Unsqueeze",
                "embeddings/is_padding_row",
                is_padding,
                self.constant("last_axis", [-1], np.int64),
            )
            zero = self.constant("zero", 0.0, np.float32)
            words = self.add("Where", "embeddings/words_kept", column, zero, words)
        types = self.add(
            "Gather", "embeddings/types", "embeddings.token_type_embeddings.weight", "token_type_ids"
        )
        length = self.add("Shape", "embeddings/length", "input_ids", start=1, end=2)
        positions = self.add(
            "Slice",
            "embeddings/positions",
            "embeddings.position_embeddings.weight",
            self.constant("start", [0], np.int64),
            length,
            self.constant("start", [0], np.int64),
        )
        words_types = self.add("Add", "embeddings/words_types", words, types)
        total = self.add("Add", "embeddings/sum", words_types, positions)
        return self.layer_norm("embeddings/norm", total, "embeddings.layer_norm")

    def mask(self) -> str:
        """0 where a key counts and -10000 where it is masked, [batch, 1, 1, sequence]."""
        as_float = self.add("Cast", "mask/float", "attention_mask", to=TensorProto.FLOAT)
        masked = self.add("Sub", "mask/inverted", self.constant("one", 1.0, np.float32), as_float)
        bias = self.add("Mul", "mask/bias", masked, self.constant("masked", _MASKED, np.float32))
        return self.add("Unsqueeze", "mask/broadcast", bias, self.constant("head_axes", [1, 2], np.int64))

    def layer(self, scope: str, x: str, mask: str, prefix: str, result: str) -> str:
        attended = self.attention(f"{scope}/attention", x, mask, f"{prefix}attention.")
        inner = self.linear(f"{scope}/ffn", attended, f"{prefix}ffn")
        active = self.activation(f"{scope}/activation", inner)
        outer = self.linear(f"{scope}/ffn_output", active, f"{prefix}ffn_output")
        total = self.add("Add", f"{scope}/residual", outer, attended)
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
        heads = {}
        for part, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
            flat = self.linear(f"{scope}/{part}", x, f"{prefix}{part}")
            reshaped = self.add("Reshape", f"{scope}/{part}_split", flat, split)
            heads[part] = self.add("Transpose", f"{scope}/{part}_heads", reshaped, perm=order)
        scores = self.add("MatMul", f"{scope}/scores", heads["query"], heads["key"])
        root = self.constant("root_head_size", float(np.sqrt(config.head_size)), np.float32)
        scaled = self.add("Div", f"{scope}/scaled", scores, root)
        masked = self.add("Add", f"{scope}/masked", scaled, mask)
        weights = self.add("Softmax", f"{scope}/weights", masked, axis=-1)
        context = self.add("MatMul", f"{scope}/context", weights, heads["value"])
        tokens = self.add("Transpose", f"{scope}/context_tokens", context, perm=[0, 2, 1, 3])
        merged = self.add("Reshape", f"{scope}/context_joined", tokens, joined)
        dense = self.linear(f"{scope}/dense", merged, f"{prefix}dense")
        total = self.add("Add", f"{scope}/residual", x, dense)
        return self.layer_norm(f"{scope}/norm", total, f"{prefix}layer_norm")
