"""The fused operators of ONNX Runtime's optimizer, and ONNX's own Attention, in plain operators.

ONNX Runtime documents its own in ContribOperators.md; what is not said here cannot be taken apart.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..graph import Attribute, Node

_MICROSOFT = "com.microsoft."
_TANH: Mapping[str, Attribute] = {"approximate": "tanh"}


def decomposed(node: Node, constants: dict[str, np.ndarray], new_name: Callable[[], str]) -> list[Node]:
    """The plain nodes that compute what ``node`` does: the node itself if it is no fused one that we know.

    Args:
        node: Its ``op`` has the domain in front if that is not ONNX's own.
        constants: Of the graph; the new nodes' are added.
        new_name: Makes names for values.
    """
    parts = _Parts(node, constants, new_name)
    taker = _FUSED.get(node.op)
    try:
        done = taker is not None and taker(parts, dict(node.attributes), *_padded(node.inputs))
    except (TypeError, ValueError, LookupError, ArithmeticError):  # attributes or outputs that do not fit it
        done = False
    return parts.nodes if done else [node]


def _padded(inputs: tuple[str, ...]) -> tuple[str, ...]:
    return (*inputs, *[""] * (10 - len(inputs)))


class _Parts:
    """The plain nodes of one fused node."""

    def __init__(self, node: Node, constants: dict[str, np.ndarray], new_name: Callable[[], str]) -> None:
        self.node, self.constants, self.new_name = node, constants, new_name
        self.nodes: list[Node] = []

    def add(self, op: str, *inputs: str, to: int | None = None, **attributes: Any) -> str:
        """Append a node; the name of its output, which is the fused node's output number ``to``."""
        output = self.new_name() if to is None else self.node.outputs[to]
        self.append(op, inputs, (output,), attributes)
        return output

    def append(
        self, op: str, inputs: tuple[str, ...], outputs: tuple[str, ...], attributes: Mapping[str, Any]
    ) -> None:
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        self.nodes.append(Node(op, inputs, outputs, attributes, self.node.name, self.node.kind))

    def constant(self, value: Any) -> str:
        name = self.new_name()
        self.constants[name] = np.asarray(value)
        return name

    def wants(self, output: int) -> bool:
        """Whether the fused node has an output of this number."""
        return len(self.node.outputs) > output and bool(self.node.outputs[output])

    def split_heads(self, x: str, heads: int) -> str:
        """[B, T, heads * d] as [B, heads, T, d]."""
        rows = self.add("Reshape", x, self.constant([0, 0, heads, -1]))
        return self.add("Transpose", rows, perm=(0, 2, 1, 3))

    def scaled(self, q: str) -> str:
        """Queries [B, heads, T, d] divided by the root of d, which only their shape tells."""
        size = self.add("Cast", self.add("Shape", q, start=3), dtype="float32")
        return self.add("Div", q, self.add("Sqrt", size))

    def attend(self, q: str, k: str, v: str, scale: float, bias: str) -> str:
        """Attention of [B, heads, T, d], ``bias`` added to the scores."""
        scores = self.add("MatMul", q, k, transB=1, alpha=scale)
        if bias:
            scores = self.add("Add", scores, bias)
        return self.add("MatMul", self.add("Softmax", scores, axis=-1), v)

    def join_heads(self, x: str) -> None:
        """[B, heads, T, d] as the fused node's output, [B, T, heads * d]."""
        rows = self.add("Transpose", x, perm=(0, 2, 1, 3))
        self.add("Reshape", rows, self.constant([0, 0, -1]), to=0)


def _matmul(parts: _Parts, attributes: dict[str, Any], x: str, y: str, *rest: str) -> bool:
    if attributes.get("transBatchA") or attributes.get("transBatchB"):
        return False
    parts.add("MatMul", x, y, to=0, **attributes)
    return True


def _fused_gemm(parts: _Parts, attributes: dict[str, Any], x: str, y: str, bias: str, *rest: str) -> bool:
    activation = attributes.pop("activation", "")
    if activation not in ("Relu", "Tanh", "Sigmoid"):
        return False
    parts.add(activation, parts.add("Gemm", x, y, bias, **attributes), to=0)
    return True


def _gelu(tanh: bool) -> Callable[..., bool]:
    def taker(parts: _Parts, attributes: dict[str, Any], x: str, bias: str, *rest: str) -> bool:
        value = parts.add("Add", x, bias) if bias else x
        parts.add("Gelu", value, to=0, **(_TANH if tanh else {}))
        return True

    return taker


def _skip_layer_norm(
    parts: _Parts,
    attributes: dict[str, Any],
    x: str,
    skip: str,
    weight: str,
    norm_bias: str,
    bias: str,
    *rest: str,
) -> bool:
    if bias:
        x = parts.add("Add", x, bias)
    total = parts.add("Add", x, skip, to=3 if parts.wants(3) else None)
    epsilon = attributes.get("epsilon", 1e-12)
    parts.add("LayerNormalization", total, weight, norm_bias, to=0, axis=-1, epsilon=epsilon)
    return not (parts.wants(1) or parts.wants(2))


def _embed_layer_norm(
    parts: _Parts,
    attributes: dict[str, Any],
    ids: str,
    types: str,
    words: str,
    positions: str,
    type_table: str,
    weight: str,
    bias: str,
    mask: str,
    position_ids: str,
    *rest: str,
) -> bool:
    if not position_ids:
        length = parts.add("Gather", parts.add("Shape", ids), parts.constant(1))
        position_ids = parts.add("Range", parts.constant(0), length, parts.constant(1))
    total = parts.add("Gather", words, ids)
    total = parts.add("Add", total, parts.add("Gather", positions, position_ids))
    if types:
        total = parts.add("Add", total, parts.add("Gather", type_table, types))
    if parts.wants(2):
        parts.add("Identity", total, to=2)
    epsilon = attributes.get("epsilon", 1e-12)
    parts.add("LayerNormalization", total, weight, bias, to=0, axis=-1, epsilon=epsilon)
    if parts.wants(1) and mask:
        # Rows' lengths: the form that this operator hands to Attention.
        parts.add("ReduceSum", mask, parts.constant([1]), to=1, keepdims=0)
    return True


def _fused_attention(
    parts: _Parts,
    attributes: dict[str, Any],
    x: str,
    weight: str,
    bias: str,
    mask: str,
    past: str,
    added: str,
    *rest: str,
) -> bool:
    """com.microsoft.Attention: queries, keys and values by one matrix [H, 3 H]."""
    heads, matrix = attributes.get("num_heads"), parts.constants.get(weight)
    unusual = (
        attributes.get("unidirectional") or attributes.get("do_rotary") or "qkv_hidden_sizes" in attributes
    )
    if past or unusual or not heads or matrix is None or matrix.ndim != 2 or matrix.shape[1] % (3 * heads):
        return False
    product = parts.add("MatMul", x, weight)
    if bias:
        product = parts.add("Add", product, bias)
    pieces = tuple(parts.new_name() for _ in range(3))
    parts.append("Split", (product,), pieces, {"axis": -1, "num_outputs": 3})
    q, k, v = (parts.split_heads(piece, heads) for piece in pieces)
    scale = attributes.get("scale") or 1 / math.sqrt(matrix.shape[1] // (3 * heads))
    filtered = attributes.get("mask_filter_value", -10000.0)
    parts.join_heads(parts.attend(q, k, v, scale, _bias(parts, x, mask, added, filtered)))
    return True


def _multi_head_attention(
    parts: _Parts,
    attributes: dict[str, Any],
    q: str,
    k: str,
    v: str,
    bias: str,
    mask: str,
    added: str,
    *rest: str,
) -> bool:
    """com.microsoft.MultiHeadAttention of queries, keys and values [B, T, H]."""
    heads, vector = attributes.get("num_heads"), parts.constants.get(bias)
    if any(rest) or attributes.get("unidirectional") or not (heads and k and v):
        return False
    values = [q, k, v]
    if bias:
        if vector is None or vector.ndim != 1 or len(vector) % 3:
            return False
        thirds = np.split(vector, 3)
        values = [parts.add("Add", x, parts.constant(part)) for x, part in zip(values, thirds, strict=True)]
    queries, keys, held = (parts.split_heads(x, heads) for x in values)
    scale = attributes.get("scale")
    if not scale:
        queries = parts.scaled(queries)
    filtered = attributes.get("mask_filter_value", -10000.0)
    bias = _bias(parts, q, mask, added, filtered)
    parts.join_heads(parts.attend(queries, keys, held, scale or 1.0, bias))
    return True


def _bias(parts: _Parts, x: str, mask: str, added: str, filtered: float) -> str:
    """What is added to the scores, for values [B, T, ..]: '' for nothing."""
    if not mask:
        return added
    # A mask is [B, T], or the rows' lengths, [B]. As [B, 1] the latter make a mask of all places before them.
    length = parts.add("Gather", parts.add("Shape", x), parts.constant(1))
    bias = parts.add("ScoreMask", mask, length, filtered=filtered)
    return parts.add("Add", bias, added) if added else bias


def _attention(
    parts: _Parts, attributes: dict[str, Any], q: str, k: str, v: str, mask: str, *rest: str
) -> bool:
    """ONNX's Attention (opset 23), on [B, heads, T, d] or [B, T, heads * d]."""
    if any(rest) or attributes.get("is_causal") or attributes.get("softcap"):
        return False
    heads = attributes.get("q_num_heads")
    values = (q, k, v)
    if heads:
        q, k, v = (parts.split_heads(x, heads) for x in values)
    scale = attributes.get("scale")
    if not scale:
        q = parts.scaled(q)
    bias = parts.add("AdditiveMask", mask) if mask else ""
    context = parts.attend(q, k, v, scale or 1.0, bias)
    if heads:
        parts.join_heads(context)
    else:
        parts.add("Identity", context, to=0)
    return not parts.wants(1)


_FUSED: Mapping[str, Callable[..., bool]] = {
    f"{_MICROSOFT}FusedMatMul": _matmul,
    f"{_MICROSOFT}FusedGemm": _fused_gemm,
    f"{_MICROSOFT}Gelu": _gelu(tanh=False),
    f"{_MICROSOFT}BiasGelu": _gelu(tanh=False),
    f"{_MICROSOFT}FastGelu": _gelu(tanh=True),
    f"{_MICROSOFT}SkipLayerNormalization": _skip_layer_norm,
    f"{_MICROSOFT}EmbedLayerNormalization": _embed_layer_norm,
    f"{_MICROSOFT}Attention": _fused_attention,
    f"{_MICROSOFT}MultiHeadAttention": _multi_head_attention,
    "Attention": _attention,
}
