"""How the nodes of an ONNX graph are built: operators, constants, and the casts and rounding of a precision.

In 16 bits the matrices, the embedding tables and the activations next to them have that type. Everything else
is float32, as in the Paddle model: LayerNormalization, Softmax, the mask, residuals and outputs.

In int8 the matrices are integers with a DequantizeLinear at each use, which execution providers fuse with
the MatMul behind it. The inputs of the layers' matrices go through QuantizeLinear and DequantizeLinear,
symmetric, with a separate range at every depth. The other products, a thousandth of the work, use float32.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.artifact.tasks import INPUTS, Head
from albert_runtime.artifact.tensor_table import SCALE

from .precision import Precision

# An input that is zero on the whole calibration text still needs a scale.
_LEAST_RANGE = 1e-6
TYPES = {
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


class NodeBuilder:
    """Nodes in order, and the small constants they use. A node and its one output share a readable name."""

    def __init__(self, config: AlbertConfig, head: Head, numbers: Numbers) -> None:
        self.config, self.head, self.ranges = config, head, numbers.ranges
        precision = numbers.precision
        self.narrow, self.quantized = precision.narrow, precision.quantized
        self.type = TYPES[precision.dtype] if precision.narrow else TensorProto.FLOAT
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
