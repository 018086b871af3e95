"""ALBERT over packed tokens, as csrc/engine/forward.cc: embeddings, the layer in a loop, the heads."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..artifact.config import AlbertConfig
from ..artifact.tasks import Head
from .batch import Capacity, GpuBatch
from .kernels.attention import attention
from .kernels.embed import embed
from .kernels.layer_norm import layer_norm
from .kernels.linear import Linear, linear
from .kernels.quantize import quantize_rows
from .kernels.rows import gather_rows
from .numbers import Numbers
from .weights import LayerWeights, Norm, Weights

NOTHING_BAD = 2**31 - 1
# write_state(layer, hidden): called with the embeddings mapped to H as layer 0, then after every layer.
WriteState = Callable[[int, torch.Tensor], None]


@dataclass(frozen=True, slots=True)
class Model:
    """A model on the GPU."""

    config: AlbertConfig
    head: Head
    numbers: Numbers
    weights: Weights

    def bytes_per_token(self) -> int:
        """Of the buffers of a pass."""
        c, wide = self.config, max(3 * self.config.hidden_size, self.config.intermediate_size)
        size: int = self.numbers.activations.itemsize
        integers = max(c.hidden_size, c.intermediate_size) + 4 if self.numbers.quantized else 0
        return size * (c.embedding_size + 4 * c.hidden_size + wide) + integers


@dataclass(frozen=True, slots=True)
class PassWanted:
    """What a pass is asked for: states of all tokens, logits of all tokens, pooled outputs, their logits."""

    tokens: bool
    token_logits: bool
    pooled: bool
    pooled_logits: bool

    @property
    def first_tokens_only(self) -> bool:
        """Whether the last layer's outputs are needed for the first token of each row alone."""
        return not (self.tokens or self.token_logits)


class Buffers:
    """Where a pass keeps its activations and results.

    Attributes:
        hidden: [N, H]; input and output of a layer; last the hidden states of the packed tokens.
        pooled: [B, H]; the pooler's output.
        token_logits: float32 [N, labels].
        pooled_logits: float32 [B, labels].
        first_bad: int32 [1]; the first token with an id out of range, or ``NOTHING_BAD``.
    """

    def __init__(self, model: Model, capacity: Capacity, device: torch.device) -> None:
        c, labels = model.config, model.head.num_labels
        n, rows, h = capacity.tokens, capacity.blocks, c.hidden_size

        def room(count: int, columns: int, dtype: torch.dtype = model.numbers.activations) -> torch.Tensor:
            return torch.empty(count, columns, dtype=dtype, device=device)

        self.embedded = room(n, c.embedding_size)
        self.hidden = room(n, h)
        self.context = room(n, h)  # softmax(Q K^T) V
        self.sums = room(n, h)  # before LayerNorm: product + bias + residual
        self.attended = room(n, h)  # after attention's LayerNorm
        self.wide = room(n, max(3 * h, c.intermediate_size))  # Q|K|V, then the FFN inside
        self.first, self.first_queries = room(rows, h), room(rows, h)  # of the first token of each row
        self.pooled = room(rows, h, torch.float32)
        self.token_logits = room(n, 0 if model.head.reads_pooled else labels, torch.float32)
        self.pooled_logits = room(rows, labels if model.head.reads_pooled else 0, torch.float32)
        self.first_bad = torch.empty(1, dtype=torch.int32, device=device)
        self.integers = self.scale = None
        if model.numbers.quantized:  # the activations of the next product
            self.integers = room(n, max(h, c.intermediate_size), torch.int8)
            self.scale = torch.empty(n, dtype=torch.float32, device=device)


@dataclass(frozen=True, slots=True)
class _Step:
    """The rows that a part of a pass works on: all tokens, or the first token of every row."""

    capacity: int
    count: torch.Tensor


class Forward:
    """One pass over a batch. Nothing in it waits for the GPU, so that it can be captured in a graph."""

    def __init__(self, model: Model, buffers: Buffers, batch: GpuBatch) -> None:
        self._config, self._head, self._weights = model.config, model.head, model.weights
        self._numbers = model.numbers
        self._b, self._batch = buffers, batch
        self._all = _Step(batch.capacity.tokens, batch.tokens)
        self._firsts = _Step(batch.capacity.blocks, batch.rows.count)

    def __call__(self, wanted: PassWanted, write_state: WriteState | None = None) -> None:
        """Fill those attributes of the buffers that are wanted."""
        self._embed()
        if write_state is not None:
            write_state(0, self._b.hidden)
        hidden = self._b.hidden
        for layer in range(self._config.num_hidden_layers):
            group = self._weights.groups[self._config.group_of_layer(layer)]
            for w in group:
                last = layer + 1 == self._config.num_hidden_layers and w is group[-1]
                hidden = self._layer(w, first_tokens_only=last and wanted.first_tokens_only)
            if write_state is not None:
                write_state(layer + 1, hidden)
        self._heads(hidden, wanted)

    def _embed(self) -> None:
        b, batch, c = self._b, self._batch, self._config
        b.first_bad.fill_(NOTHING_BAD)
        norm = self._weights.embedding_norm
        embed(
            *(batch.input_ids, batch.token_type_ids, batch.positions, self._weights.tables),
            *((norm.scale, norm.shift), c.layer_norm_eps, c.padding_idx),
            *(b.embedded, b.first_bad, batch.tokens),
        )
        linear(b.embedded, self._weights.mapping_in, b.hidden, batch.tokens)
        self._quantize(b.hidden, self._all)

    def _layer(self, w: LayerWeights, *, first_tokens_only: bool) -> torch.Tensor:
        """Hidden states to hidden states. The integers of a product's activations are made just before it."""
        b, h = self._b, self._config.hidden_size
        qkv = b.wide[:, : 3 * h]
        keys, values = qkv[:, h : 2 * h], qkv[:, 2 * h :]
        if first_tokens_only:
            step, residual = self._firsts, b.first
            self._product(b.hidden, w.qkv.columns(h, 3 * h), qkv[:, h:], self._all)
            gather_rows(b.hidden, self._batch.rows.starts, b.first, step.count)
            self._quantize(b.first, step)
            self._product(b.first, w.qkv.columns(0, h), b.first_queries, step)
            queries = b.first_queries
        else:
            step, residual = self._all, b.hidden
            self._product(b.hidden, w.qkv, qkv, step)
            queries = qkv[:, :h]
        context = b.context[: step.capacity]
        attention(
            *(queries, keys, values, context, self._config.num_attention_heads, self._batch.rows),
            first_queries_only=first_tokens_only,
            tf32=self._numbers.tf32,
        )
        self._quantize(context, step)
        self._product(context, w.dense, b.sums, step, residual=residual)
        attended = self._norm(b.sums, w.attention_norm, b.attended, step)
        inner = b.wide[:, : self._config.intermediate_size]
        self._product(attended, w.ffn, inner, step, activation=self._config.hidden_act)
        self._quantize(inner, step)
        self._product(inner, w.ffn_output, b.sums, step, residual=attended)
        return self._norm(b.sums, w.full_norm, residual, step)

    def _heads(self, hidden: torch.Tensor, wanted: PassWanted) -> None:
        b, firsts = self._b, self._firsts
        if wanted.token_logits:
            assert self._weights.classifier is not None
            linear(hidden, self._weights.classifier, b.token_logits, self._all.count)
        if not (wanted.pooled or wanted.pooled_logits):
            return
        if not wanted.first_tokens_only:
            gather_rows(hidden, self._batch.rows.starts, b.first, firsts.count)
        assert self._weights.pooler is not None
        linear(b.first, self._weights.pooler, b.pooled, firsts.count, activation="tanh")
        if wanted.pooled_logits:
            assert self._weights.classifier is not None
            linear(b.pooled, self._weights.classifier, b.pooled_logits, firsts.count)

    def _product(
        self,
        x: torch.Tensor,
        by: Linear,
        out: torch.Tensor,
        step: _Step,
        *,
        activation: str = "none",
        residual: torch.Tensor | None = None,
    ) -> None:
        """A product of the layers: of x, or of its integers where those are multiplied."""
        if self._b.integers is not None:
            x = self._b.integers[:, : x.shape[1]]
        out = out[: step.capacity]
        linear(x, by, out, step.count, activation=activation, residual=residual, x_scale=self._b.scale)

    def _norm(self, x: torch.Tensor, norm: Norm, out: torch.Tensor, step: _Step) -> torch.Tensor:
        """LayerNorm, and the integers for the product that follows."""
        x, out = x[: step.capacity], out[: step.capacity]
        layer_norm(
            *(x, norm.scale, norm.shift, self._config.layer_norm_eps, out, step.count), self._quantized(x)
        )
        return out

    def _quantize(self, x: torch.Tensor, step: _Step) -> None:
        quantized = self._quantized(x)
        if quantized is not None:
            quantize_rows(x[: step.capacity], *quantized, step.count)

    def _quantized(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        if self._b.integers is None or self._b.scale is None:
            return None
        return self._b.integers[:, : x.shape[1]], self._b.scale


def score_vocabulary(
    model: Model, hidden: torch.Tensor, tokens: torch.Tensor, count: torch.Tensor
) -> torch.Tensor:
    """Scores float32 [P, V] of the packed tokens int32 [P], all of them in use, from hidden states [N, H]."""
    head = model.weights.vocabulary
    assert head is not None

    def room(columns: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(len(tokens), columns, dtype=dtype, device=hidden.device)

    gathered = room(model.config.hidden_size, hidden.dtype)
    gather_rows(hidden, tokens, gathered, count)
    inner = room(model.config.embedding_size, hidden.dtype)
    linear(gathered, head.dense, inner, count, activation=model.config.hidden_act)
    layer_norm(inner, head.norm.scale, head.norm.shift, model.head.decoder_norm_eps, inner, count)
    scores = room(model.config.vocab_size, torch.float32)
    linear(inner, head.decoder, scores, count)
    return scores
