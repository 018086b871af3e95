"""The sentence head in paddle.nn: pooling, dense steps, normalization, all in the wide type.

Import this module only where paddle may be imported.
"""

# paddle has no types that mypy could follow, so its Layer is Any.
# mypy: disable-error-code="misc, no-any-return"

from collections.abc import Callable

import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

from albert_runtime.artifact.sentence import (
    BELOW_ALL,
    CLS,
    DENSE,
    LAST_TOKEN,
    LEAST_NORM,
    LEAST_WEIGHT,
    MAX,
    MEAN_SQRT_LENGTH,
    PREFIX,
    WEIGHTED_MEAN,
    SentenceHead,
)

from .model import Mixed, named

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "Identity": lambda x: x,
    "Tanh": paddle.tanh,
    "ReLU": F.relu,
    "ReLU6": F.relu6,
    "LeakyReLU": F.leaky_relu,
    "ELU": F.elu,
    "SELU": F.selu,
    "GELU": F.gelu,
    "SiLU": F.silu,
    "Mish": F.mish,
    "Sigmoid": F.sigmoid,
    "Softplus": F.softplus,
}


class SentenceEmbedding(Mixed):
    """Hidden states [B, T, H] and the int64 mask [B, T] to vectors [B, D]."""

    def __init__(self, head: SentenceHead) -> None:
        super().__init__()
        self.head = head
        self.dense = nn.LayerList()
        before = paddle.get_default_dtype()
        paddle.set_default_dtype(self.wide)
        try:
            for index, step in enumerate(head.steps):
                if step.kind == DENSE:
                    self.dense.append(_linear(step.inputs, step.outputs, f"{PREFIX}{index}", bias=step.bias))
        finally:
            paddle.set_default_dtype(before)

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """As said above."""
        mask = attention_mask.astype(self.wide)
        vectors = [self.pooled(kind, hidden, mask) for kind in self.head.pooling]
        vector = vectors[0] if len(vectors) == 1 else paddle.concat(vectors, axis=-1)
        dense = 0
        for step in self.head.steps:
            if step.kind == DENSE:
                vector = _ACTIVATIONS[step.activation](self.dense[dense](vector))
                dense += 1
            else:
                norm = paddle.sqrt((vector * vector).sum(axis=-1, keepdim=True))
                vector = vector / paddle.clip(norm, min=LEAST_NORM)
        return vector

    def pooled(self, kind: str, hidden: Tensor, mask: Tensor) -> Tensor:
        """One pooling, [B, H]: the greatest values, or a sum over tokens with weights that add up as said."""
        if kind == MAX:
            return (hidden + ((1.0 - mask) * BELOW_ALL).unsqueeze(-1)).max(axis=1)
        return paddle.matmul(self.weights(kind, mask).unsqueeze(1), hidden).squeeze(1)

    def weights(self, kind: str, mask: Tensor) -> Tensor:
        """What each token counts, [B, T]."""
        if kind in (CLS, LAST_TOKEN):
            count = paddle.cumsum(mask, axis=1)
            one = 1.0 if kind == CLS else mask.sum(axis=1, keepdim=True)
            return mask * (count == one).astype(self.wide)
        weights = mask
        if kind == WEIGHTED_MEAN:  # 1 for the first unmasked token, then one more for each column
            before = (paddle.cumsum(mask, axis=1) == 0).astype(self.wide).sum(axis=1, keepdim=True)
            weights = mask * (paddle.cumsum(paddle.ones_like(mask), axis=1) - before)
        total = paddle.clip(weights.sum(axis=1, keepdim=True), min=LEAST_WEIGHT)
        return weights / (paddle.sqrt(total) if kind == MEAN_SQRT_LENGTH else total)


def _linear(inputs: int, outputs: int, prefix: str, *, bias: bool) -> nn.Linear:
    attribute = named(f"{prefix}.bias") if bias else False
    return nn.Linear(inputs, outputs, weight_attr=named(f"{prefix}.weight"), bias_attr=attribute)
