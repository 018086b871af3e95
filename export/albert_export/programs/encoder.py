"""The encoder of a program's ALBERT: its config and its tensors, in our names and layouts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from albert_runtime.artifact.config import AlbertConfig, layer_prefix
from albert_runtime.errors import ArtifactError

from ..errors import ExportError
from .expressions import Linear, Norm
from .grammar import Layer, Part
from .graph import Node
from .recognise import Found

Tensors = dict[str, np.ndarray]
# Where the program does not say: it is of no use but for random weights.
_INITIALIZER_RANGE = 0.02
# Of an epsilon that was rounded to 0 in 16 bits.
_USUAL_EPS = 1e-12


@dataclass(frozen=True)
class Encoder:
    """``tensors`` are those of ``config``, of any float type."""

    config: AlbertConfig
    tensors: Mapping[str, np.ndarray]


def refuse(node: Node, why: str) -> NoReturn:
    """Raise the ExportError that names a node."""
    raise ExportError(f"it is no ALBERT that we know: {node} does not fit: {why}")


def take_encoder(found: Found, *, pooled: bool) -> Encoder:
    """The encoder of an ALBERT that was found, with its pooler if ``pooled``."""
    parts = found.parts
    tensors = _embeddings(found)
    layers, groups, inner = _sharing(parts.layers)
    for number, layer in enumerate(layers):
        prefix = layer_prefix(number // inner, number % inner)
        tensors |= {f"{prefix}{name}": tensor for name, tensor in layer.items()}
    if pooled:
        tensors |= linear("pooler", parts.poolers[len(parts.layers)])
    words, first, mapping = parts.tables[Part.WORDS], parts.layers[0], parts.mapping
    assert first.scores and first.ffn and first.activation and mapping
    pad = next(
        (one for one in (words.padding_idx, found.pad_id) if one is not None), _row_of_zeros(words.table)
    )
    try:
        config = AlbertConfig(
            vocab_size=words.table.shape[0],
            embedding_size=words.table.shape[1],
            hidden_size=mapping.weight.shape[1],
            num_hidden_layers=len(parts.layers) // inner,
            num_hidden_groups=groups,
            inner_group_num=inner,
            num_attention_heads=first.scores.shape[1],
            intermediate_size=first.ffn.weight.shape[1],
            hidden_act=_activation(parts.layers),
            max_position_embeddings=len(tensors["embeddings.position_embeddings.weight"]),
            type_vocab_size=len(tensors["embeddings.token_type_embeddings.weight"]),
            layer_norm_eps=_eps(found),
            pad_token_id=pad,
            padding_idx=words.padding_idx,
            add_pooling_layer=pooled,
            initializer_range=_INITIALIZER_RANGE,
        )
    except ArtifactError as error:
        raise ExportError(f"the program's ALBERT is none that can be exported: {error}") from None
    for scores, _ in parts.masks:
        if scores.shape[1] != config.num_attention_heads:
            refuse(scores.node, f"{scores.shape[1]} heads follow {config.num_attention_heads}")
    for name, shape in config.tensor_shapes().items():
        if tensors[name].shape != shape:
            raise ExportError(f"its {name} has shape {list(tensors[name].shape)}, no ALBERT's {list(shape)}")
    return Encoder(config, tensors)


def _row_of_zeros(table: np.ndarray) -> int:
    """The one row of zeros, which training leaves for the word that pads; 0 if there is not one."""
    rows = np.flatnonzero(~table.any(axis=1))
    return int(rows[0]) if len(rows) == 1 else 0


def linear(name: str, of: Linear, columns: np.ndarray | None = None) -> Tensors:
    """The tensors of a linear map: all columns, or these."""
    weight = of.weight
    bias = np.zeros(weight.shape[1], np.float32) if of.bias is None else of.bias
    if columns is not None and not np.array_equal(columns, np.arange(weight.shape[1])):
        weight, bias = weight[:, columns], bias[columns]
    return {f"{name}.weight": weight, f"{name}.bias": bias}


def norm(name: str, of: Norm) -> Tensors:
    """The tensors of a LayerNorm."""
    columns = of.shape[-1]
    weight = np.ones(columns, np.float32) if of.weight is None else of.weight
    return {
        f"{name}.weight": weight,
        f"{name}.bias": np.zeros(columns, np.float32) if of.bias is None else of.bias,
    }


def epsilon(of: Norm) -> float:
    """That of a LayerNorm."""
    return of.eps or _USUAL_EPS


def _embeddings(found: Found) -> Tensors:
    parts = found.parts
    tables = parts.tables
    assert parts.norm is not None and parts.mapping is not None
    if Part.WORDS not in tables or Part.POSITIONS not in tables:
        lacking = "position" if Part.WORDS in tables else "word"
        refuse(parts.norm.node, f"the sum before it has no {lacking} embeddings")
    tensors = {}
    words = tables[Part.WORDS].table
    for part, name in ((Part.WORDS, "word"), (Part.POSITIONS, "position"), (Part.TYPES, "token_type")):
        table = tables[part].table if part in tables else np.zeros((1, words.shape[1]), np.float32)
        tensors[f"embeddings.{name}_embeddings.weight"] = table
    tensors |= norm("embeddings.layer_norm", parts.norm)
    return tensors | linear("encoder.embedding_hidden_mapping_in", parts.mapping)


def _layer(layer: Layer) -> Tensors:
    scores, context = layer.scores, layer.context
    assert scores is not None and context is not None
    tensors: Tensors = {}
    for name, of, columns in (
        ("query", scores.q, scores.q_columns),
        ("key", scores.k, scores.k_columns),
        ("value", context.v, context.v_columns),
    ):
        assert isinstance(of, Linear)
        tensors |= linear(f"attention.{name}", of, columns.ravel())
    assert layer.dense and layer.attention_norm and layer.ffn and layer.ffn_dense and layer.ffn_norm
    tensors |= linear("attention.dense", layer.dense) | norm("attention.layer_norm", layer.attention_norm)
    tensors |= linear("ffn", layer.ffn) | linear("ffn_output", layer.ffn_dense)
    return tensors | norm("full_layer_layer_norm", layer.ffn_norm)


def _sharing(layers: list[Layer]) -> tuple[list[Tensors], int, int]:
    """The tensors of the layers that differ, in ALBERT's order; numbers of groups and of layers in one."""
    kinds: list[Tensors] = []
    sequence = []
    for layer in layers:
        tensors = _layer(layer)
        number = next((number for number, one in enumerate(kinds) if _same(one, tensors)), len(kinds))
        sequence.append(number)
        if number == len(kinds):
            kinds.append(tensors)
    for inner in range(1, len(kinds) + 1):
        steps, left = divmod(len(sequence), inner)
        groups = len(kinds) // inner
        if left or len(kinds) % inner or groups > steps:
            continue
        # AlbertConfig.group_of_layer's rule.
        of_group = [int(step / (steps / groups)) * inner for step in range(steps)]
        if sequence == [first + index for first in of_group for index in range(inner)]:
            return kinds, groups, inner
    last = layers[-1].ffn_norm
    assert last is not None
    refuse(last.node, f"its layers share weights in the order {sequence}, as no ALBERT's do")


def _same(one: Tensors, other: Tensors) -> bool:
    return all(_same_array(one[name], other[name]) for name in one)


def _same_array(a: np.ndarray, b: np.ndarray) -> bool:
    if a.__array_interface__["data"] == b.__array_interface__["data"] and a.strides == b.strides:
        return a.shape == b.shape  # one constant, which need not be compared with itself
    return np.array_equal(a, b)


def _activation(layers: list[Layer]) -> str:
    first = layers[0].activation
    assert first is not None
    for layer in layers:
        if layer.activation is not None and layer.activation.name != first.name:
            refuse(layer.activation.node, f"{layer.activation.name} follows {first.name}")
    return first.name


def _eps(found: Found) -> float:
    first = found.parts.norm
    assert first is not None
    for layer in found.parts.layers:
        for one in (layer.attention_norm, layer.ffn_norm):
            if one is not None and epsilon(one) != epsilon(first):
                refuse(one.node, f"its epsilon is {one.eps:g}, that of the embeddings {first.eps:g}")
    return epsilon(first)
