"""The encoder of an ALBERT model as ONNX nodes: embeddings, mask, layers and pooler."""

import numpy as np
from onnx import TensorProto

from albert_runtime.artifact.config import layer_prefix
from albert_runtime.artifact.tasks import HIDDEN_STATES, MODEL
from albert_runtime.artifact.tensor_table import SCALE

from .onnx_nodes import NodeBuilder

_MASKED = -10000.0


class Encoder(NodeBuilder):
    """Builds the nodes from the model's inputs to the hidden states and the pooled output."""

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

    def activation(self, name: str, x: str) -> str:
        if self.config.hidden_act == "relu":
            return self.add("Relu", name, x)
        return self.add(
            "Gelu", name, x, approximate="tanh" if self.config.hidden_act == "gelu_new" else "none"
        )
