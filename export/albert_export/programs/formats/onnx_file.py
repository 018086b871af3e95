"""Reads an ONNX file, and the files that hold its external data, as a graph."""

from collections import ChainMap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import onnx

from albert_runtime.errors import ArtifactError

from ...checkpoint.stored_tensor import shown
from ...errors import ExportError
from ..graph import Attribute, Graph, Input, Node
from . import onnx_fused
from .onnx_model import load_model

# Attributes of older opsets for what is an input now, in the order of the inputs.
_OVER_AXES = (
    *("Squeeze", "Unsqueeze"),
    *("ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"),
)
_NOW_INPUTS = {
    "Clip": ("min", "max"),
    "Slice": ("starts", "ends", "axes"),
    "Split": ("split",),
    **dict.fromkeys(_OVER_AXES, ("axes",)),
}
_TYPES = onnx.TensorProto
_NUMPY = {
    _TYPES.FLOAT: "float32",
    _TYPES.DOUBLE: "float64",
    _TYPES.FLOAT16: "float16",
    _TYPES.BFLOAT16: "float32",
    _TYPES.INT64: "int64",
    _TYPES.INT32: "int32",
    _TYPES.INT16: "int16",
    _TYPES.INT8: "int8",
    _TYPES.UINT8: "uint8",
    _TYPES.UINT16: "uint16",
    _TYPES.UINT32: "uint32",
    _TYPES.UINT64: "uint64",
    _TYPES.BOOL: "bool",
}
_MAX_DEPTH = 8


def read_onnx(path: Path) -> Graph:
    """The graph of an ONNX file.

    Raises:
        ArtifactError: The file is damaged, or its external data are not there.
        ExportError: It holds what no ALBERT needs.
    """
    return _Reader(path, load_model(path)).read()


class _Reader:
    """One file: the values of its graphs under names that are unique in all of them."""

    def __init__(self, path: Path, model: onnx.ModelProto) -> None:
        self.path, self.model = path, model
        self.opset = max(
            (one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=1
        )
        self.constants: dict[str, np.ndarray] = {}
        self.nodes: list[Node] = []
        self.data_files: list[Path] = []
        self.made = 0

    def read(self) -> Graph:
        graph = self.model.graph
        self.graph(graph, ChainMap(), 0)
        initial = {tensor.name for tensor in graph.initializer}
        inputs = tuple(self.input(one) for one in graph.input if one.name not in initial)
        outputs = tuple((one.name, one.name) for one in graph.output)
        return Graph(inputs, outputs, tuple(self.nodes), self.constants, (self.path, *self.data_files))

    def input(self, value: onnx.ValueInfoProto) -> Input:
        tensor = value.type.tensor_type
        sizes = (size.dim_value if size.HasField("dim_value") else None for size in tensor.shape.dim)
        return Input(
            value.name, tuple(size or None for size in sizes), self.dtype(tensor.elem_type, value.name)
        )

    def graph(self, graph: onnx.GraphProto, names: ChainMap[str, str], depth: int) -> None:
        """Append the nodes of a graph. ``names``: new names of the values that it uses and defines."""
        if depth > _MAX_DEPTH:
            raise ExportError(f"{self.path}: graphs lie within graphs, more than {_MAX_DEPTH} deep")
        for tensor in graph.initializer:
            self.constants[names.get(tensor.name, tensor.name)] = self.array(tensor)
        for node in graph.node:
            self.node(node, names, depth)

    def node(self, node: onnx.NodeProto, names: ChainMap[str, str], depth: int) -> None:
        name = node.name or next(iter(node.output), "")
        inputs = tuple(names.get(value, value) for value in node.input)
        outputs = tuple(names.get(value, value) for value in node.output)
        if node.op_type == "If" and node.domain in ("", "ai.onnx") and inputs:
            self.branches(node, name, inputs, outputs, names, depth)
            return
        attributes = {one.name: self.attribute(one) for one in node.attribute}
        if node.op_type == "Constant" and len(attributes) == 1 and outputs:
            value = next(iter(attributes.values()))
            if not isinstance(value, str):
                dtype = {int: np.int64, float: np.float32}.get(type(value))
                self.constants[outputs[0]] = np.asarray(
                    value, np.int64 if isinstance(value, tuple) else dtype
                )
                return
        kind = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        plain = Node(kind, inputs, outputs, attributes, name, kind)
        for one in onnx_fused.decomposed(self.current(plain), self.constants, self.new_name):
            self.nodes.append(one)

    def current(self, node: Node) -> Node:
        """The node as the newest opset would have it."""
        attributes, inputs = dict(node.attributes), list(node.inputs)
        moved = [one for one in _NOW_INPUTS.get(node.op, ()) if one in attributes]
        if moved:
            for place, attribute in enumerate(_NOW_INPUTS[node.op], 1):
                value = attributes.pop(attribute, None)
                if len(inputs) <= place:
                    inputs.append("" if value is None else self.constant(np.asarray(value)))
        if node.op == "Cast":
            to = attributes.get("to")
            attributes = {"dtype": _NUMPY.get(to, "unknown") if isinstance(to, int) else "unknown"}
        elif node.op == "Split" and len(inputs) < 2:
            attributes.setdefault("num_outputs", len(node.outputs))
        elif node.op in ("Softmax", "LogSoftmax"):
            attributes.setdefault("axis", -1 if self.opset >= 13 else 1)
        elif node.op == "Dropout" and len(inputs) > 2 and self.constants.get(inputs[2], np.False_).any():
            return Node("Dropout in training", node.inputs, node.outputs, attributes, node.name, node.kind)
        return Node(node.op, tuple(inputs), node.outputs, attributes, node.name, node.kind)

    def branches(
        self,
        node: onnx.NodeProto,
        name: str,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        names: ChainMap[str, str],
        depth: int,
    ) -> None:
        """Both branches of an If, and nodes that choose: what the other cannot compute does not matter."""
        results = []
        graphs = {one.name: one.g for one in node.attribute if one.HasField("g")}
        for branch in (graphs.get("then_branch"), graphs.get("else_branch")):
            if branch is None or len(branch.output) != len(outputs):
                raise ArtifactError(f"{self.path}: {shown(name)} (If) lacks a branch, or outputs of it")
            inner = ChainMap({value: self.new_name() for value in _defined(branch)}, names)
            self.graph(branch, inner, depth + 1)
            results.append([inner.get(value.name, value.name) for value in branch.output])
        for output, yes, no in zip(outputs, *results, strict=True):
            self.nodes.append(Node("Choose", (inputs[0], yes, no), (output,), {}, name, "If"))

    def attribute(self, one: onnx.AttributeProto) -> Attribute:
        try:
            value = onnx.helper.get_attribute_value(one)
        except ValueError:  # of a type that is unknown, or that a function's caller gives
            return "an attribute that no ALBERT has"
        if isinstance(value, _TYPES):
            return self.array(value)
        if isinstance(value, bytes):
            return value.decode(errors="replace")
        if isinstance(value, int | float):
            return value
        if one.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS):
            return tuple(value) if one.type == onnx.AttributeProto.INTS else np.asarray(value, np.float32)
        return "an attribute that no ALBERT has"

    def constant(self, value: np.ndarray) -> str:
        """The name of a new constant."""
        name = self.new_name()
        self.constants[name] = value
        return name

    def new_name(self) -> str:
        """A name for a value of ours; ONNX has no names with a null character."""
        self.made += 1
        return f"\0{self.made}"

    def array(self, tensor: onnx.TensorProto) -> np.ndarray:
        """A tensor's values, mapped where they are in a file of their own."""
        dtype = self.dtype(tensor.data_type, tensor.name)
        try:
            if tensor.data_location == _TYPES.EXTERNAL:
                values = self.external(tensor, dtype)
            elif tensor.data_type == _TYPES.BFLOAT16:
                raw = tensor.raw_data or np.asarray(tensor.int32_data, np.uint16).tobytes()
                values = np.frombuffer(raw, "<u2").reshape(tuple(tensor.dims))
            else:
                return np.asarray(onnx.numpy_helper.to_array(tensor))
        except (ValueError, TypeError, ArithmeticError) as error:
            raise ArtifactError(
                f"{self.path}: tensor {shown(tensor.name)} does not fit its shape ({error})"
            ) from None
        if tensor.data_type == _TYPES.BFLOAT16:
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values

    def dtype(self, kind: int, name: str) -> str:
        """numpy's name of a type."""
        dtype = _NUMPY.get(kind)
        if dtype is None:
            title = _TYPES.DataType.Name(kind) if kind in _TYPES.DataType.values() else str(kind)
            raise ExportError(f"{self.path}: {shown(name)} is of type {title}, which no ALBERT has")
        return dtype

    def external(self, tensor: onnx.TensorProto, dtype: str) -> np.ndarray:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        path = self.data_file(entries.get("location", ""), tensor.name)
        shape = tuple(tensor.dims)
        stored = np.dtype("<u2" if tensor.data_type == _TYPES.BFLOAT16 else dtype)
        offset, count = int(entries.get("offset", 0)), int(np.prod(shape, dtype=object))
        if min(shape, default=0) < 0 or offset < 0 or offset + count * stored.itemsize > path.stat().st_size:
            raise ArtifactError(
                f"{self.path}: tensor {shown(tensor.name)} lies beyond the end of {path.name}"
            )
        if count == 0:
            return np.zeros(shape, stored)
        return np.memmap(path, stored, "r", offset, shape)

    def data_file(self, location: str, tensor: str) -> Path:
        """A file of external data, which lies in the ONNX file's folder or below."""
        place = PurePosixPath(location)
        folder = self.path.parent
        path = folder / place
        if not location or place.is_absolute() or ".." in place.parts or "\0" in location:
            raise ArtifactError(
                f"{self.path}: the data of {shown(tensor)} are said to be in {shown(location)!r}, "
                "outside its folder"
            )
        if not _is_file(path):
            raise ArtifactError(f"{self.path}: the data of {shown(tensor)} are missing: {shown(str(path))}")
        if path not in self.data_files:
            self.data_files.append(path)
        return path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # its name is too long
        return False


def _defined(graph: onnx.GraphProto) -> Iterator[str]:
    """The names of the values that a graph defines."""
    for tensor in graph.initializer:
        yield tensor.name
    for node in graph.node:
        yield from (name for name in node.output if name)
