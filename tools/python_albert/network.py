"""ALBERT with its masked-LM head for training: the arithmetic of albert_export.model, less work.

Only chosen places pass the last feed-forward block and the head; query, key and value are one product.
"""

import math

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import Tensor
from paddle.nn import functional as F

from albert_runtime.config import AlbertConfig, layer_prefix
from albert_runtime.tasks import MASKED_LM, Head

from .vocabulary import MASK

Float = NDArray[np.float32]
LAYER = layer_prefix(0, 0)
SETTLED = 3


def tensor_shapes(config: AlbertConfig) -> dict[str, tuple[int, ...]]:
    """All parameters under the project's names, matrices [in, out]."""
    head = Head.of(MASKED_LM, decoder_norm_eps=config.layer_norm_eps)
    return {**config.tensor_shapes(), **head.tensor_shapes(config)}


class Network:
    """Parameters by name; ``scores`` runs any number of passes of the one shared layer."""

    def __init__(self, config: AlbertConfig, values: dict[str, Float]) -> None:
        self.config = config
        self.unrest = paddle.zeros([])
        self.parameters: dict[str, Tensor] = {}
        for name in tensor_shapes(config):
            tensor = paddle.to_tensor(values[name], stop_gradient=False)
            self.parameters[name] = paddle.base.framework.EagerParamBase.from_tensor(tensor, name=name)

    def values(self) -> dict[str, Float]:
        """Every parameter as float32."""
        return {name: np.asarray(tensor.numpy(), np.float32) for name, tensor in self.parameters.items()}

    def scores(
        self, ids: Tensor, mask: Tensor, chosen: Tensor, passes: int, learned: int | None = None
    ) -> Tensor:
        """ids [B, T]; mask [B, 1, 1, T], 0 or -10000; chosen [N] flat places: scores [N, V].

        Gradients reach the last ``learned`` passes, or all of them and the embeddings. Leaves in ``unrest``
        how much the last but one pass has changed the states, squared, if ``SETTLED`` passes came before it.
        """
        frozen = 0 if learned is None else max(0, passes - learned)
        x = self._embed(ids)
        parts = [self._weights(f"{LAYER}attention.{part}") for part in ("query", "key", "value")]
        joined = tuple(paddle.concat(tensors, axis=-1) for tensors in zip(*parts, strict=True))
        with paddle.no_grad():
            for _ in range(frozen):
                x = self._layer(x, mask, joined, None)
        self.unrest = paddle.zeros([])
        for index in range(frozen, passes - 1):
            before, x = x, self._layer(x, mask, joined, None)
            if index >= SETTLED:
                self.unrest = F.mse_loss(x, before.detach())
        return self._head(self._layer(x, mask, joined, chosen))

    def scores_unseen(
        self, ids: Tensor, mask: Tensor, chosen: Tensor, passes: int, learned: int | None = None
    ) -> Tensor:
        """As ``scores``, but every place is a [MASK] to itself and its own word to all others.

        The states of [MASK] read from the embedded words of the other places, in every pass, so that a step
        predicts all words and not a fifth of them, and still none can see itself.
        """
        words = self._embed(ids)
        x = self._embed(paddle.full_like(ids, MASK))
        mask = mask + paddle.eye(ids.shape[1]) * -10000.0
        key = self._heads(self._linear(words, f"{LAYER}attention.key"))
        value = self._heads(self._linear(words, f"{LAYER}attention.value"))

        def one_pass(x: Tensor, chosen: Tensor | None) -> Tensor:
            query = self._heads(self._linear(x, f"{LAYER}attention.query"))
            return self._after_attention(x, self._context(query, key, value, mask), chosen)

        frozen = 0 if learned is None else max(0, passes - learned)
        with paddle.no_grad():
            for _ in range(frozen):
                x = one_pass(x, None)
        for index in range(frozen, passes):
            x = one_pass(x, chosen if index == passes - 1 else None)
        return self._head(x)

    def _head(self, x: Tensor) -> Tensor:
        x = F.gelu(self._linear(x, "predictions.dense"), approximate=True)
        x = self._norm(x, "predictions.layer_norm")
        words = self.parameters["embeddings.word_embeddings.weight"]
        return paddle.matmul(x, words, transpose_y=True) + self.parameters["predictions.bias"]

    def _weights(self, name: str) -> tuple[Tensor, Tensor]:
        return self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"]

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, *self._weights(name))

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self._weights(name)
        return F.layer_norm(x, weight.shape, weight, bias, self.config.layer_norm_eps)

    def _embed(self, ids: Tensor) -> Tensor:
        words = F.embedding(ids, self.parameters["embeddings.word_embeddings.weight"])
        positions = self.parameters["embeddings.position_embeddings.weight"][: ids.shape[1]]
        types = self.parameters["embeddings.token_type_embeddings.weight"][0]
        x = self._norm(words + positions + types, "embeddings.layer_norm")
        return self._linear(x, "encoder.embedding_hidden_mapping_in")

    def _layer(self, x: Tensor, mask: Tensor, joined: tuple[Tensor, ...], chosen: Tensor | None) -> Tensor:
        query, key, value = map(self._heads, F.linear(x, *joined).split(3, axis=-1))
        return self._after_attention(x, self._context(query, key, value, mask), chosen)

    def _heads(self, x: Tensor) -> Tensor:
        # [B, T, H] to [B, heads, T, head size]
        return x.reshape([0, 0, self.config.num_attention_heads, self.config.head_size]).transpose(
            [0, 2, 1, 3]
        )

    def _context(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        scores = paddle.matmul(query * (1 / math.sqrt(self.config.head_size)), key, transpose_y=True)
        context = paddle.matmul(F.softmax(scores + mask, axis=-1), value)
        return context.transpose([0, 2, 1, 3]).reshape([0, 0, self.config.hidden_size])

    def _after_attention(self, x: Tensor, context: Tensor, chosen: Tensor | None) -> Tensor:
        if chosen is not None:
            x = x.reshape([-1, self.config.hidden_size]).gather(chosen)
            context = context.reshape([-1, self.config.hidden_size]).gather(chosen)
        x = self._norm(x + self._linear(context, f"{LAYER}attention.dense"), f"{LAYER}attention.layer_norm")
        inner = F.gelu(self._linear(x, f"{LAYER}ffn"), approximate=True)
        return self._norm(x + self._linear(inner, f"{LAYER}ffn_output"), f"{LAYER}full_layer_layer_norm")
