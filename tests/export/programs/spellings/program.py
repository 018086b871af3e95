"""The whole ALBERT in one spelling."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from .attention import Attention
from .nodes import CONFIG, LAYER


class Program(Attention):
    """The encoder: embeddings, layers, pooler. ``shape``: that of its inputs."""

    shape: Sequence[int | str] = ("batch", "sequence")

    def layer(self, x: str, number: int) -> str:
        q, k, v = self.heads_of(x)
        axis = 2 if self.wrong == "softmax over queries" else -1
        attended = self.add("Softmax", self.masked(self.scores(q, k), number), axis=axis, name="softmax")
        out = self.joined(self.add("MatMul", attended, v))
        if self.wrong == "a norm before":
            x = self.add("Add", x, out)
            inner = self.activation(
                self.linear(self.norm(x, f"{LAYER}.full_layer_layer_norm"), f"{LAYER}.ffn")
            )
            return self.add("Add", self.linear(inner, f"{LAYER}.ffn_output"), x)
        epsilon = 1e-3 if self.wrong == "another epsilon" and number else None
        summed = self.add("Add", out, x) if number else self.add("Add", x, out)
        attended = self.norm(summed, f"{LAYER}.attention.layer_norm", epsilon)
        out = self.linear(self.activation(self.linear(attended, f"{LAYER}.ffn")), f"{LAYER}.ffn_output")
        beside = x if self.wrong == "another sum" else attended
        return self.norm(self.add("Add", out, beside, name="sum"), f"{LAYER}.full_layer_layer_norm")

    def embeddings(self) -> str:
        return self.norm(self.embedding_sum(), "embeddings.layer_norm")

    def embedding_sum(self) -> str:
        x = self.add("Add", self.words(), self.types())
        return x if self.wrong == "no positions" else self.add("Add", x, self.positions())

    def words(self) -> str:
        return self.add("Gather", self.weight("embeddings.word_embeddings.weight"), self.word_ids())

    def types(self) -> str:
        return self.add("Gather", self.weight("embeddings.token_type_embeddings.weight"), self.type_ids())

    def positions(self) -> str:
        return self.way("positions", self.weight("embeddings.position_embeddings.weight"))

    def word_ids(self) -> str:
        return "input_ids"

    def type_ids(self) -> str:
        return "token_type_ids"

    def length(self) -> str:
        return self.add("Slice", self.add("Shape", "input_ids"), [1], [2])

    def positions_sliced(self, table: str) -> str:
        return self.add("Slice", table, [0], self.length(), [0])

    def positions_input(self, table: str) -> str:
        return self.add("Gather", table, "position_ids")

    def positions_range(self, table: str) -> str:
        length = self.add("Squeeze", self.length(), [0])
        return self.add("Gather", table, self.add("Range", np.array(0), length, np.array(1)))

    def positions_buffer(self, table: str) -> str:
        numbers = np.arange(CONFIG.max_position_embeddings)[None]
        return self.add("Gather", table, self.add("Slice", numbers, [0], self.length(), [1]))

    def positions_counted(self, table: str) -> str:
        ones = self.add("ConstantOfShape", self.add("Shape", "input_ids"), value=one_of(TensorProto.INT64))
        counted = self.add("Sub", self.add("CumSum", ones, np.array(1)), ones)
        return self.add("Gather", table, counted)

    def first(self, x: str) -> str:
        """The states of first tokens, [B, H]."""
        return self.way("first", x)

    def first_gathered(self, x: str) -> str:
        return self.add("Gather", x, np.array(0), axis=1)

    def first_sliced(self, x: str) -> str:
        return self.add("Squeeze", self.add("Slice", x, [0], [1], [1]), [1])

    def states(self) -> str:
        """The last hidden state."""
        x = self.linear(self.embeddings(), "encoder.embedding_hidden_mapping_in")
        for number in range(CONFIG.num_hidden_layers):
            x = self.layer(x, number)
        return x

    def outputs(self) -> list[str]:
        """The values that the program gives."""
        x = self.states()
        return [x, self.add("Tanh", self.linear(self.first(x), "pooler", rank=2))]

    def inputs(self) -> list[str]:
        """The names of its inputs."""
        more = ["position_ids"] if self.wrong == "an input of positions" else []
        return ["input_ids", "attention_mask", "token_type_ids", *more]

    def model(self) -> onnx.ModelProto:
        """The whole."""
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self.outputs()]
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, self.shape) for name in self.inputs()
        ]
        graph = helper.make_graph(self.nodes, "albert", inputs, outputs, list(self.weights.values()))
        imports = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=imports, ir_version=10)


def one_of(kind: int) -> onnx.TensorProto:
    return helper.make_tensor("value", kind, [1], [1])


def write(folder: Path, ways: Mapping[str, str], wrong: str = "") -> Path:
    """A program's file; ``wrong``: what no ALBERT has."""
    return save(folder, Program(ways, wrong))


def save(folder: Path, program: Program) -> Path:
    """The file of a program."""
    path = folder / "model.onnx"
    onnx.save(program.model(), path)
    return path
