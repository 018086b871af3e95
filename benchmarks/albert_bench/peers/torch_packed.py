"""PyTorch without padding: the tokens of all rows one after another, attention within the rows' bounds."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .torch_peer import Encoder, Layer

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # torch 2.9 and older
    varlen_attn = None

# Where each row begins, int32 [B + 1], the last being N; and the tokens of the longest row.
Bounds = tuple[Tensor, int]


class PackedLayer(Layer):
    """One transformer layer over packed tokens [N, H]."""

    def attention(self, qkv: Tensor, where: Any) -> Tensor:
        """Queries, keys and values [N, 3H] to context [N, H]; ``where``: their Bounds."""
        heads = qkv.view(-1, 3, self.config.num_attention_heads, self.config.head_size)
        query, key, value = heads.unbind(1)
        bounds, longest = where
        if varlen_attn is not None and qkv.is_cuda:
            context = varlen_attn(query, key, value, bounds, bounds, longest, longest)
        else:  # only the GPU's flash kernel takes bounds; nested tensors do the same everywhere
            context = _nested_attention(query, key, value, bounds)
        return context.reshape(qkv.shape[0], -1)


class PackedEncoder(Encoder):
    """ALBERT over packed tokens."""

    layer: Any = PackedLayer

    def packed(self, ids: Tensor, positions: Tensor, where: Bounds) -> tuple[Tensor, Tensor]:
        """int64 [N], int64 [N] and bounds to [N, H] and [B, H]."""
        table = self.weight("embeddings.position_embeddings.weight")
        x = self.layers(self.embedded(ids, F.embedding(positions, table)), where)
        return x, self.pooled(x[where[0][:-1]])


def _nested_attention(query: Tensor, key: Tensor, value: Tensor, bounds: Tensor) -> Tensor:
    parts = [torch.nested.nested_tensor_from_jagged(x.contiguous(), bounds) for x in (query, key, value)]
    context = F.scaled_dot_product_attention(*(part.transpose(1, 2) for part in parts))
    return context.transpose(1, 2).contiguous().values()
