"""One small ALBERT as ONNX programs that spell its computation in different ways.

``WAYS`` are the equivalent ones, by what they spell; ``WRONG`` are computations that no ALBERT has.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from albert_runtime.artifact.config import AlbertConfig

CONFIG = AlbertConfig(
    vocab_size=11,
    embedding_size=4,
    hidden_size=6,
    num_hidden_layers=2,
    num_hidden_groups=1,
    inner_group_num=1,
    num_attention_heads=2,
    intermediate_size=8,
    hidden_act="gelu_new",
    max_position_embeddings=9,
    type_vocab_size=2,
    layer_norm_eps=1e-5,
    pad_token_id=0,
    padding_idx=None,
    add_pooling_layer=True,
    initializer_range=0.02,
)
HIDDEN, HEADS, SIZE = CONFIG.hidden_size, CONFIG.num_attention_heads, CONFIG.head_size
LAYER = "encoder.albert_layer_groups.0.albert_layers.0"
LOWEST = float(np.finfo(np.float32).min)


def tensors() -> dict[str, np.ndarray]:
    """Random values for all of ``CONFIG``'s."""
    generator = np.random.default_rng(3)
    return {
        name: generator.normal(float(name.endswith("norm.weight")), 0.3, shape).astype(np.float32)
        for name, shape in CONFIG.tensor_shapes().items()
    }


class Program:
    """An ONNX model as it is put together. ``ways``: a method's name for each part of ``WAYS``."""

    def __init__(self, ways: Mapping[str, str], wrong: str = "") -> None:
        self.ways, self.wrong = ways, wrong
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = {}
        self.tensors = tensors()

    # ---- Nodes and constants

    def add(self, op: str, *inputs: object, name: str = "", outputs: int = 1, **attributes: object) -> str:
        """Append a node; inputs that are no names are constants. The name of its first output."""
        domain, _, kind = op.rpartition(".")
        names = [one if isinstance(one, str) else self.constant(one) for one in inputs]
        number = len(self.nodes)
        results = [f"v{number}", *(f"v{number}.{place}" for place in range(1, outputs))]
        name = f"{name or kind} {number}"
        self.nodes.append(helper.make_node(kind, names, results, name=name, domain=domain, **attributes))
        return results[0]

    def constant(self, value: object) -> str:
        array = np.asarray(value)
        if array.dtype in (np.float64, np.int32):
            array = array.astype(np.float32 if array.dtype == np.float64 else np.int64)
        name = f"c{len(self.weights)}"
        self.weights[name] = numpy_helper.from_array(array, name)
        return name

    def weight(self, name: str, change: Callable[[np.ndarray], np.ndarray] = lambda values: values) -> str:
        """A tensor of ours, perhaps in another layout; the same one whenever it is asked for."""
        values = change(self.tensors[name])
        key = f"{name}{list(values.shape)}{values.tobytes()[:16].hex()}"
        self.weights.setdefault(key, numpy_helper.from_array(np.ascontiguousarray(values), key))
        return key

    def way(self, part: str, *arguments: object, **more: object) -> str:
        """Spell a part in the way that was chosen."""
        return getattr(self, f"{part}_{self.ways.get(part, WAYS[part][0])}")(*arguments, **more)

    # ---- Linear maps

    def linear(self, x: str, name: str, outer: str = "", rank: int = 3) -> str:
        made = self.way("linear" if rank == 3 else "flat", x, name)
        if self.wrong == "two biases" and name == f"{LAYER}.ffn":
            made = self.add("Add", made, np.arange(CONFIG.intermediate_size) / 8, name="second bias")
        return made

    def linear_matmul(self, x: str, name: str) -> str:
        return self.add(
            "Add", self.add("MatMul", x, self.weight(f"{name}.weight")), self.weight(f"{name}.bias")
        )

    def linear_bias_first(self, x: str, name: str) -> str:
        return self.add(
            "Add", self.weight(f"{name}.bias"), self.add("MatMul", x, self.weight(f"{name}.weight"))
        )

    def linear_transposed(self, x: str, name: str) -> str:
        turned = self.add("Transpose", self.weight(f"{name}.weight", np.transpose), perm=[1, 0])
        return self.add("Add", self.add("MatMul", x, turned), self.weight(f"{name}.bias"))

    def linear_gemm(self, x: str, name: str) -> str:
        return self.rows(x, name, lambda rows: self.flat_gemm(rows, name))

    def linear_gemm_of_transposed(self, x: str, name: str) -> str:
        return self.rows(x, name, lambda rows: self.flat_gemm_of_transposed(rows, name))

    def linear_einsum(self, x: str, name: str) -> str:
        product = self.add("Einsum", x, self.weight(f"{name}.weight"), equation="bth,ho->bto")
        return self.add("Add", product, self.weight(f"{name}.bias"))

    def rows(self, x: str, name: str, product: Callable[[str], str]) -> str:
        inputs, outputs = self.tensors[f"{name}.weight"].shape
        shape = self.add("Shape", x)
        flat = self.add("Reshape", x, [-1, inputs])
        sizes = self.add("Concat", self.add("Slice", shape, [0], [2]), [outputs], axis=0)
        return self.add("Reshape", product(flat), sizes)

    def flat_gemm(self, x: str, name: str) -> str:
        return self.add("Gemm", x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"))

    def flat_gemm_of_transposed(self, x: str, name: str) -> str:
        return self.add(
            "Gemm", x, self.weight(f"{name}.weight", np.transpose), self.weight(f"{name}.bias"), transB=1
        )

    def flat_matmul(self, x: str, name: str) -> str:
        return self.linear_matmul(x, name)

    # ---- LayerNorm

    def norm(self, x: str, name: str, epsilon: float | None = None) -> str:
        eps = CONFIG.layer_norm_eps if epsilon is None else epsilon
        return self.way("norm", x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"), eps)

    def norm_whole(self, x: str, weight: str, bias: str, eps: float) -> str:
        return self.add("LayerNormalization", x, weight, bias, epsilon=eps, axis=-1)

    def norm_pow(self, x: str, weight: str, bias: str, eps: float) -> str:
        centered = self.centered(x)
        root = self.add("Sqrt", self.variance(self.add("Pow", centered, 2.0), eps))
        return self.scaled(self.add("Div", centered, root), weight, bias)

    def norm_square(self, x: str, weight: str, bias: str, eps: float) -> str:
        centered = self.centered(x)
        root = self.add("Pow", self.variance(self.add("Mul", centered, centered), eps), 0.5)
        return self.scaled(self.add("Div", centered, root), weight, bias)

    def norm_inverse(self, x: str, weight: str, bias: str, eps: float) -> str:
        centered = self.centered(x)
        inverse = self.add("Reciprocal", self.add("Sqrt", self.variance(self.add("Pow", centered, 2.0), eps)))
        return self.scaled(self.add("Mul", inverse, centered), weight, bias)

    def norm_inverse_power(self, x: str, weight: str, bias: str, eps: float) -> str:
        centered = self.centered(x)
        inverse = self.add("Pow", self.variance(self.add("Mul", centered, centered), eps), -0.5)
        return self.scaled(self.add("Mul", centered, inverse), weight, bias)

    def norm_cast(self, x: str, weight: str, bias: str, eps: float) -> str:
        wide = self.add("Cast", self.centered(x), to=TensorProto.DOUBLE)
        mean = self.add("ReduceMean", self.add("Mul", wide, wide), [-1])
        root = self.add("Sqrt", self.add("Add", mean, self.add("Cast", eps, to=TensorProto.DOUBLE)))
        normed = self.add("Div", wide, root)
        return self.scaled(self.add("Cast", normed, to=TensorProto.FLOAT), weight, bias)

    def centered(self, x: str) -> str:
        return self.add("Sub", x, self.add("ReduceMean", x, [-1]))

    def variance(self, squares: str, eps: float) -> str:
        return self.add("Add", self.add("ReduceMean", squares, [-1]), eps)

    def scaled(self, normed: str, weight: str, bias: str) -> str:
        return self.add("Add", self.add("Mul", normed, weight), bias)

    # ---- gelu_new

    def activation(self, x: str) -> str:
        if self.wrong == "another activation":
            return self.add("Mul", x, self.add("Sigmoid", x), name="swish")
        return self.way("activation", x)

    def activation_whole(self, x: str) -> str:
        return self.add("Gelu", x, approximate="tanh")

    def activation_fast(self, x: str) -> str:
        return self.add("com.microsoft.FastGelu", x)

    def activation_pow(self, x: str) -> str:
        cube = self.add("Mul", self.add("Pow", x, 3.0), 0.044715)
        return self.half_of(x, self.add("Add", x, cube))

    def activation_products(self, x: str) -> str:
        cube = self.add("Mul", self.add("Mul", self.add("Mul", 0.044715, x), x), x)
        return self.half_of(x, self.add("Add", cube, x))

    def activation_factored(self, x: str) -> str:
        square = self.add("Add", self.add("Mul", self.add("Mul", x, x), 0.044715), 1.0)
        inner = self.add("Mul", self.add("Mul", x, math.sqrt(2 / math.pi)), square)
        halves = self.add("Add", self.add("Mul", self.add("Tanh", inner), 0.5), 0.5)
        return self.add("Mul", halves, x)

    def activation_sigmoid(self, x: str) -> str:
        inner = self.add("Add", x, self.add("Mul", self.add("Pow", x, 3.0), 0.044715))
        return self.add("Mul", x, self.add("Sigmoid", self.add("Mul", inner, 2 * math.sqrt(2 / math.pi))))

    def half_of(self, x: str, inner: str) -> str:
        tanh = self.add("Tanh", self.add("Mul", inner, math.sqrt(2 / math.pi)))
        return self.add("Mul", self.add("Div", x, 2.0), self.add("Add", tanh, 1.0))

    # ---- Attention

    def heads_of(self, x: str) -> tuple[str, str, str]:
        """Queries, keys and values by head, [B, heads, T, d]."""
        q, k, v = getattr(self, f"maps_{self.ways.get('maps', WAYS['maps'][0])}")(x)
        return self.by_head(q), self.by_head(k), self.by_head(v)

    def by_head(self, x: str) -> str:
        """[B, T, H] as [B, heads, T, d]; what lies by head already is left."""
        return x[1:] if x.startswith("=") else self.way("heads", x)

    def maps_apart(self, x: str) -> list[str]:
        return [self.linear(x, f"{LAYER}.attention.{part}") for part in ("query", "key", "value")]

    def fused(self, x: str) -> str:
        parts = ("query", "key", "value")
        for kind in ("weight", "bias"):
            joined = [self.tensors[f"{LAYER}.attention.{part}.{kind}"] for part in parts]
            self.tensors[f"{LAYER}.attention.fused.{kind}"] = np.concatenate(joined, -1)
        return self.linear(x, f"{LAYER}.attention.fused")

    def maps_split(self, x: str) -> list[str]:
        first = self.add("Split", self.fused(x), [HIDDEN] * 3, axis=-1, outputs=3)
        return [first, f"{first}.1", f"{first}.2"]

    def maps_slices(self, x: str) -> list[str]:
        fused = self.fused(x)
        return [self.add("Slice", fused, [i * HIDDEN], [(i + 1) * HIDDEN], [2]) for i in range(3)]

    def maps_gathered(self, x: str) -> list[str]:
        shaped = self.add("Reshape", self.fused(x), [0, 0, 3, HEADS, SIZE])
        turned = self.add("Transpose", shaped, perm=[2, 0, 3, 1, 4])
        return [f"={self.add('Gather', turned, i, axis=0)}" for i in range(3)]

    def heads_reshape(self, x: str) -> str:
        return self.add("Transpose", self.add("Reshape", x, [0, 0, HEADS, SIZE]), perm=[0, 2, 1, 3])

    def heads_of_shape(self, x: str) -> str:
        shape = self.add("Concat", self.add("Slice", self.add("Shape", x), [0], [2]), [HEADS, SIZE], axis=0)
        return self.add("Transpose", self.add("Reshape", x, shape), perm=[0, 2, 1, 3])

    def heads_split(self, x: str) -> str:
        first = self.add("Split", x, [SIZE] * HEADS, axis=2, outputs=HEADS)
        pieces = [first, *(f"{first}.{place}" for place in range(1, HEADS))]
        return self.add("Concat", *(self.add("Unsqueeze", piece, [1]) for piece in pieces), axis=1)

    def scores(self, q: str, k: str) -> str:
        if self.wrong == "another scale":
            return self.add("Mul", self.product(q, k), 0.5)
        return self.way("scale", q, k)

    def product(self, q: str, k: str) -> str:
        return self.way("product", q, k)

    def product_transpose(self, q: str, k: str) -> str:
        return self.add("MatMul", q, self.add("Transpose", k, perm=[0, 1, 3, 2]), name="q x k")

    def product_fused(self, q: str, k: str) -> str:
        return self.add("com.microsoft.FusedMatMul", q, k, transB=1, name="q x k")

    def product_einsum(self, q: str, k: str) -> str:
        return self.add("Einsum", q, k, equation="bhqd,bhkd->bhqk", name="q x k")

    def scale_scores(self, q: str, k: str) -> str:
        return self.add("Div", self.product(q, k), math.sqrt(SIZE))

    def scale_times(self, q: str, k: str) -> str:
        return self.add("Mul", 1 / math.sqrt(SIZE), self.product(q, k))

    def scale_query(self, q: str, k: str) -> str:
        return self.product(self.add("Mul", q, 1 / math.sqrt(SIZE)), k)

    def scale_key(self, q: str, k: str) -> str:
        return self.product(q, self.add("Div", k, math.sqrt(SIZE)))

    def scale_both(self, q: str, k: str) -> str:
        return self.product(self.add("Mul", q, SIZE**-0.25), self.add("Mul", k, SIZE**-0.25))

    def scale_shape(self, q: str, k: str) -> str:
        size = self.add(
            "Cast", self.add("Slice", self.add("Shape", q), [-1], [1 << 40]), to=TensorProto.FLOAT
        )
        return self.product(self.add("Div", q, self.add("Sqrt", size)), k)

    def masked(self, scores: str, layer: int) -> str:
        if self.wrong == "a mask in one layer" and layer:
            return scores
        if self.wrong == "a causal mask":
            length = self.add("Gather", self.add("Shape", "input_ids"), 1)
            square = self.add("Concat", *[self.add("Unsqueeze", length, [0])] * 2, axis=0)
            ones = self.add("ConstantOfShape", square)
            future = self.add("Trilu", self.add("Sub", ones, 1e4), 1, upper=1)
            return self.add("Add", scores, future, name="causal")
        return self.way("mask", scores)

    def kept(self) -> str:
        """The mask as [B, 1, 1, T]."""
        return self.add("Unsqueeze", "attention_mask", [1, 2])

    def mask_added(self, scores: str) -> str:
        left = self.add("Sub", 1.0, self.add("Cast", self.kept(), to=TensorProto.FLOAT))
        return self.add("Add", scores, self.add("Mul", left, -10000.0))

    def mask_lowest(self, scores: str) -> str:
        left = self.add("Sub", 1.0, self.add("Cast", self.kept(), to=TensorProto.FLOAT))
        return self.add("Add", self.add("Mul", left, LOWEST), scores)

    def mask_minus(self, scores: str) -> str:
        mask = self.add("Cast", self.kept(), to=TensorProto.FLOAT)
        return self.add("Add", scores, self.add("Mul", self.add("Sub", mask, 1.0), 1e9))

    def mask_where(self, scores: str) -> str:
        mask = self.add("Cast", self.kept(), to=TensorProto.BOOL)
        return self.add("Where", mask, scores, -np.inf)

    def mask_where_not(self, scores: str) -> str:
        mask = self.add("Equal", self.kept(), np.array(0))
        spread = self.add("Expand", mask, self.add("Shape", scores))
        return self.add("Where", spread, LOWEST, scores)

    def mask_log(self, scores: str) -> str:
        return self.add("Add", scores, self.add("Log", self.add("Cast", self.kept(), to=TensorProto.FLOAT)))

    def mask_filled(self, scores: str) -> str:
        mask = self.add("Cast", self.kept(), to=TensorProto.BOOL)
        return self.add("Add", scores, self.add("Where", mask, 0.0, LOWEST))

    def joined(self, context: str) -> str:
        """[B, heads, T, d] through attention's dense map."""
        return self.way("merge", context, f"{LAYER}.attention.dense")

    def merge_reshape(self, context: str, name: str) -> str:
        rows = self.add("Reshape", self.add("Transpose", context, perm=[0, 2, 1, 3]), [0, 0, HIDDEN])
        return self.linear(rows, name)

    def merge_einsum(self, context: str, name: str) -> str:
        weight = self.weight(f"{name}.weight", lambda values: values.reshape(HEADS, SIZE, HIDDEN))
        rows = self.add("Transpose", context, perm=[0, 2, 1, 3])
        product = self.add("Einsum", rows, weight, equation="bfnd,ndh->bfh")
        return self.add("Add", product, self.weight(f"{name}.bias"))

    def merge_concat(self, context: str, name: str) -> str:
        pieces = [self.add("Gather", context, np.array(head), axis=1) for head in range(HEADS)]
        return self.linear(self.add("Concat", *pieces, axis=2), name)

    # ---- The model

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
        words = self.add("Gather", self.weight("embeddings.word_embeddings.weight"), "input_ids")
        types = self.add("Gather", self.weight("embeddings.token_type_embeddings.weight"), "token_type_ids")
        x = self.add("Add", words, types)
        if self.wrong != "no positions":
            x = self.add(
                "Add", x, self.way("positions", self.weight("embeddings.position_embeddings.weight"))
            )
        return self.norm(x, "embeddings.layer_norm")

    def length(self) -> str:
        return self.add("Slice", self.add("Shape", "input_ids"), [1], [2])

    def positions_sliced(self, table: str) -> str:
        return self.add("Slice", table, [0], self.length(), [0])

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

    def model(self) -> onnx.ModelProto:
        """The whole."""
        x = self.linear(self.embeddings(), "encoder.embedding_hidden_mapping_in")
        for number in range(CONFIG.num_hidden_layers):
            x = self.layer(x, number)
        pooled = self.add("Tanh", self.linear(self.first(x), "pooler", rank=2))
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
            for name in ("input_ids", "attention_mask", "token_type_ids")
        ]
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in (x, pooled)]
        graph = helper.make_graph(self.nodes, "albert", inputs, outputs, list(self.weights.values()))
        imports = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=imports, ir_version=10)


def one_of(kind: int) -> onnx.TensorProto:
    return helper.make_tensor("value", kind, [1], [1])


WAYS: dict[str, tuple[str, ...]] = {
    "linear": ("matmul", "bias_first", "transposed", "gemm", "gemm_of_transposed", "einsum"),
    "flat": ("gemm", "gemm_of_transposed", "matmul"),
    "norm": ("whole", "pow", "square", "inverse", "inverse_power", "cast"),
    "activation": ("whole", "fast", "pow", "products", "factored", "sigmoid"),
    "maps": ("apart", "split", "slices", "gathered"),
    "heads": ("reshape", "of_shape", "split"),
    "product": ("transpose", "fused", "einsum"),
    "scale": ("scores", "times", "query", "key", "both", "shape"),
    "mask": ("added", "lowest", "minus", "where", "where_not", "log", "filled"),
    "merge": ("reshape", "einsum", "concat"),
    "positions": ("sliced", "range", "buffer", "counted"),
    "first": ("gathered", "sliced"),
}


def write(folder: Path, ways: Mapping[str, str], wrong: str = "") -> Path:
    """A program's file; ``wrong``: what no ALBERT has."""
    path = folder / "model.onnx"
    onnx.save(Program(ways, wrong).model(), path)
    return path
