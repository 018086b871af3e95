"""The small ALBERT that is spelled, the ways to do it, and an ONNX graph as it grows."""

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

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


def tensors() -> dict[str, np.ndarray]:
    """Random values for all of ``CONFIG``'s."""
    generator = np.random.default_rng(3)
    return {
        name: generator.normal(float(name.endswith("norm.weight")), 0.3, shape).astype(np.float32)
        for name, shape in CONFIG.tensor_shapes().items()
    }


# The equivalent ways to spell each part, methods PART_WAY of the classes here; the first is the usual one.
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


class Nodes:
    """Nodes and weights of a program. ``ways``: one of ``WAYS`` for each part that is not spelled as usual.

    ``wrong``: what the program computes that no ALBERT does; '' for nothing.
    """

    def __init__(self, ways: Mapping[str, str], wrong: str = "") -> None:
        self.ways, self.wrong = ways, wrong
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = {}
        self.tensors = tensors()

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
