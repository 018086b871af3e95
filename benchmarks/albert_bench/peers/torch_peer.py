"""PyTorch: the model rebuilt from the artifact, its layer compiled with the weights frozen into the code.

All layers share one compiled layer, as PyTorch advises for layers that repeat. Compiled whole, the model
would take a minute for each kind of shape and hold a packed copy of the weights for each layer.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from albert_runtime import AlbertConfig
from albert_runtime.artifact import Artifact, layer_prefix

from .base import HIDDEN, POOLED, Answer, Ids, Job, padded

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_GELU = {"gelu": "none", "gelu_new": "tanh"}
_MASKED = -10000.0
# One row or several, padding or none, and what torch itself specializes.
_GRAPHS_PER_LAYER = 16


class Weights(nn.Module):  # type: ignore[misc]  # torch is not followed
    """Some of the model's tensors by name, and the functions that use them."""

    def __init__(self, config: AlbertConfig, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.config = config
        self._names = {name: name.replace(".", "_") for name in tensors}
        for name, values in tensors.items():
            self.register_parameter(self._names[name], nn.Parameter(values, requires_grad=False))

    def weight(self, name: str) -> Tensor:
        """A tensor by name."""
        return getattr(self, self._names[name])

    def linear(self, x: Tensor, name: str) -> Tensor:
        """x W^T + b, W [out, in]."""
        return F.linear(x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"))

    def norm(self, x: Tensor, name: str) -> Tensor:
        """LayerNorm over the last axis."""
        scale, shift = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return F.layer_norm(x, x.shape[-1:], scale, shift, self.config.layer_norm_eps)


class Layer(Weights):
    """One transformer layer, with Q, K and V in one matrix [3H, H]."""

    def __init__(self, config: AlbertConfig, tensors: dict[str, Tensor]) -> None:
        for kind in ("weight", "bias"):
            parts = [tensors.pop(f"attention.{part}.{kind}") for part in ("query", "key", "value")]
            tensors[f"attention.qkv.{kind}"] = torch.cat(parts)
        super().__init__(config, tensors)

    def forward(self, x: Tensor, where: Any) -> Tensor:
        """[..., H] to [..., H]; ``where`` is what the attention takes."""
        return self.feed_forward(x, self.attention(self.linear(x, "attention.qkv"), where))

    def attention(self, qkv: Tensor, where: Any) -> Tensor:
        """Queries, keys, values [B, S, 3H] to context [B, S, H]; ``where``: a bias [B, 1, 1, S] or None."""
        rows, length, _ = qkv.shape
        heads = qkv.view(rows, length, 3, self.config.num_attention_heads, self.config.head_size)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        context = F.scaled_dot_product_attention(query, key, value, attn_mask=where)
        return context.transpose(1, 2).reshape(rows, length, -1)

    def feed_forward(self, x: Tensor, context: Tensor) -> Tensor:
        """What follows the attention: the layer's input and the context, [..., H], to its output."""
        attended = self.norm(x + self.linear(context, "attention.dense"), "attention.layer_norm")
        inner = self.linear(attended, "ffn")
        act = self.config.hidden_act
        inner = F.relu(inner) if act == "relu" else F.gelu(inner, approximate=_GELU[act])
        return self.norm(self.linear(inner, "ffn_output") + attended, "full_layer_layer_norm")


class Encoder(Weights):
    """ALBERT: the embeddings, the loop over the layers, and the pooler.

    Args:
        config: The model.
        tensors: Its tensors by name, as ``read_tensors`` gives them.
        compiled: Whether the layers are compiled, for inputs of any shape.
    """

    layer: Any = Layer

    def __init__(self, config: AlbertConfig, tensors: dict[str, Tensor], compiled: bool = True) -> None:
        groups = [
            [_take(tensors, layer_prefix(group, inner)) for inner in range(config.inner_group_num)]
            for group in range(config.num_hidden_groups)
        ]
        super().__init__(config, tensors)
        self.groups = [[self.layer(config, layer).eval() for layer in group] for group in groups]
        if compiled:
            layers = config.num_hidden_groups * config.inner_group_num
            # All encoders of a process share this budget; beyond it torch would run them uncompiled.
            torch._dynamo.config.recompile_limit += _GRAPHS_PER_LAYER * layers
            self.groups = [[torch.compile(layer, dynamic=True) for layer in group] for group in self.groups]

    def forward(self, ids: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """int64 [B, S] and 0/1 [B, S] (None: nothing is masked) to [B, S, H] and [B, H]."""
        x = self.embedded(ids, self.weight("embeddings.position_embeddings.weight")[: ids.shape[1]])
        bias = None if mask is None else ((1.0 - mask.to(x.dtype)) * _MASKED)[:, None, None, :]
        x = self.layers(x, bias)
        return x, self.pooled(x[:, 0])

    def embedded(self, ids: Tensor, positions: Tensor) -> Tensor:
        """int64 [...] and position embeddings [..., E] to the first layer's input [..., H]."""
        x = F.embedding(ids, self.weight("embeddings.word_embeddings.weight"))
        if self.config.padding_idx is not None:
            x = x * (ids != self.config.padding_idx).to(x.dtype).unsqueeze(-1)
        x = x + self.weight("embeddings.token_type_embeddings.weight")[0] + positions
        return self.linear(self.norm(x, "embeddings.layer_norm"), "encoder.embedding_hidden_mapping_in")

    def layers(self, x: Tensor, where: Any) -> Tensor:
        """All layers, [..., H] to [..., H]; ``where`` is what their attention takes."""
        for layer_index in range(self.config.num_hidden_layers):
            for layer in self.groups[self.config.group_of_layer(layer_index)]:
                x = layer(x, where)
        return x

    def pooled(self, first: Tensor) -> Tensor:
        """The states of first tokens [B, H] to the pooled output [B, H]."""
        return torch.tanh(self.linear(first, "pooler"))


class Compiled:
    """The encoder for inputs of any shape; each kind of shape is compiled on first use."""

    def __init__(self, job: Job) -> None:
        # In the contender's folder: one benchmark's processes share compiled code, the next starts afresh.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(job.folder / "compiled")
        torch.set_num_threads(1 if job.streams else job.threads)
        torch._inductor.config.freezing = True
        artifact = Artifact.open(job.artifact)
        assert artifact.manifest is not None
        tensors = read_tensors(artifact, _TYPES[job.contender.precision])
        self._encoder = Encoder(artifact.manifest.config, tensors)

    def run(self, rows: Sequence[Ids]) -> Answer:
        """See Model.run."""
        ids, mask, _ = padded(rows)
        whole = all(len(row) == ids.shape[1] for row in rows)
        with torch.no_grad():
            hidden, pooled = self._encoder(torch.from_numpy(ids), None if whole else torch.from_numpy(mask))
        return {HIDDEN: hidden.float().numpy(), POOLED: pooled.float().numpy()}


build = Compiled


def _take(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Remove the tensors with this prefix from ``tensors``, and return them under names without it."""
    return {name.removeprefix(prefix): tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}


def read_tensors(artifact: Artifact, dtype: torch.dtype) -> dict[str, Tensor]:
    """All tensors of an fp32 or fp16 artifact, by name; linear layers' matrices are [out, in] as in torch."""
    assert artifact.manifest is not None
    found = {}
    raw = np.memmap(artifact.files["weights"], np.uint8, "r")
    for record in artifact.manifest.tensors:
        # A copy: offsets need not be aligned.
        data = raw[record.offset : record.offset + record.length].tobytes()
        values = torch.from_numpy(np.frombuffer(data, record.dtype).reshape(record.shape).copy())
        is_linear = values.ndim == 2 and "_embeddings." not in record.name
        found[record.name] = (values.T.contiguous() if is_linear else values).to(dtype)
    return found
