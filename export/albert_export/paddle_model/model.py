"""ALBERT in paddle.nn: PaddleNLP's arithmetic, written so that no shape arithmetic is traced.

Every parameter is created under its structured name, so a program's variables carry the manifest's names.
Under a default dtype of 16 bits the matrices and tables are of that type, and so is what they multiply and
give. All else is wide, float32: LayerNorm (an epsilon of 1e-12 is 0 in float16), softmax, the mask, the
activation (its steps; Paddle has no bfloat16 pow either), the sums of residuals, and what goes from layer to
layer and out.
Import this module only where paddle may be imported.
"""

# paddle has no types that mypy could follow, so its Layer is Any.
# mypy: disable-error-code="misc, no-any-return"

import math
from collections.abc import Callable, Iterator

import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

from albert_runtime.artifact.config import AlbertConfig, layer_prefix


def gelu_new(x: Tensor) -> Tensor:
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), in the separate steps PaddleNLP takes.

    But for its pow, which takes ten times as long as two products.
    """
    return 0.5 * x * (1.0 + paddle.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * (x * x * x))))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "gelu_new": gelu_new, "relu": F.relu}


def named(name: str) -> paddle.ParamAttr:
    """The attributes of a parameter called ``name``."""
    # The constant is a placeholder that costs little: every parameter gets its value by set_value.
    return paddle.ParamAttr(name=name, initializer=nn.initializer.Constant(0.0))


def linear(inputs: int, outputs: int, prefix: str) -> nn.Linear:
    """x W + b, W [inputs, outputs], its parameters named ``prefix``.weight and .bias."""
    return nn.Linear(
        inputs, outputs, weight_attr=named(f"{prefix}.weight"), bias_attr=named(f"{prefix}.bias")
    )


class Mixed(nn.Layer):
    """A layer that knows the type of the matrices, ``narrow``, and that of all else, ``wide``."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow = paddle.get_default_dtype()
        self.wide = "float32" if self.narrow in ("float16", "bfloat16") else self.narrow

    # Where the types are the same nothing is traced.
    def narrowed(self, x: Tensor) -> Tensor:
        """x, which is wide, as the matrices multiply it."""
        return x if self.narrow == self.wide else x.astype(self.narrow)

    def widened(self, x: Tensor) -> Tensor:
        """x, which a matrix gave, as all else takes it."""
        return x if self.narrow == self.wide else x.astype(self.wide)


class LayerNorm(Mixed):
    """LayerNorm over the last ``size`` columns, wide; its parameters named ``prefix``.weight and .bias."""

    def __init__(self, size: int, epsilon: float, prefix: str) -> None:
        super().__init__()
        self.size, self.epsilon = size, epsilon
        self.weight = self.create_parameter([size], attr=named(f"{prefix}.weight"), dtype=self.wide)
        self.bias = self.create_parameter([size], attr=named(f"{prefix}.bias"), dtype=self.wide, is_bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """[..., size], wide in and out."""
        return F.layer_norm(x, self.size, self.weight, self.bias, self.epsilon)


class Table(nn.Layer):
    """A lookup table [rows, columns]; paddle.nn.Embedding would zero the stored padding row."""

    def __init__(self, rows: int, columns: int, prefix: str) -> None:
        super().__init__()
        self.weight = self.create_parameter([rows, columns], attr=named(f"{prefix}.weight"))

    def forward(self, ids: Tensor) -> Tensor:
        """Rows for ids [B, S]: [B, S, columns]."""
        return F.embedding(ids, self.weight)


class AlbertEmbeddings(Mixed):
    """Word + type + position rows and their LayerNorm: [B, S] ids to [B, S, E], wide."""

    def __init__(self, config: AlbertConfig) -> None:
        super().__init__()
        size = config.embedding_size
        self.padding_idx = config.padding_idx
        self.word_embeddings = Table(config.vocab_size, size, "embeddings.word_embeddings")
        self.position_embeddings = Table(
            config.max_position_embeddings, size, "embeddings.position_embeddings"
        )
        self.token_type_embeddings = Table(config.type_vocab_size, size, "embeddings.token_type_embeddings")
        self.layer_norm = LayerNorm(size, config.layer_norm_eps, "embeddings.layer_norm")

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        """Ids and types [B, S] to [B, S, E]."""
        words = self.word_embeddings(input_ids)
        if self.padding_idx is not None:
            # Masking the looked-up rows leaves the stored table whole: a tied decoder reads its row 0.
            kept = (input_ids != self.padding_idx).astype(self.narrow)
            words = words * kept.unsqueeze(-1)
        embedded = self.widened(words) + self.widened(self.token_type_embeddings(token_type_ids))
        positions = self.position_embeddings.weight[: input_ids.shape[1]]
        return self.layer_norm(embedded + self.widened(positions))


class AlbertAttention(Mixed):
    """Self-attention, its output projection, residual and LayerNorm: [B, S, H] to [B, S, H], wide."""

    def __init__(self, config: AlbertConfig, prefix: str) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.heads, self.head_size, self.hidden = config.num_attention_heads, config.head_size, hidden
        self.query = linear(hidden, hidden, f"{prefix}query")
        self.key = linear(hidden, hidden, f"{prefix}key")
        self.value = linear(hidden, hidden, f"{prefix}value")
        self.dense = linear(hidden, hidden, f"{prefix}dense")
        self.layer_norm = LayerNorm(hidden, config.layer_norm_eps, f"{prefix}layer_norm")

    def _split(self, x: Tensor) -> Tensor:
        # 0 keeps a dimension: no Shape/Slice chain is traced. [B, S, H] -> [B, heads, S, head size]
        return x.reshape([0, 0, self.heads, self.head_size]).transpose([0, 2, 1, 3])

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [B, S, H]; mask [B, 1, 1, S], 0 or -10000."""
        y = self.narrowed(x)
        query, key, value = self._split(self.query(y)), self._split(self.key(y)), self._split(self.value(y))
        scores = self.widened(paddle.matmul(query, key, transpose_y=True)) / math.sqrt(self.head_size)
        weights = self.narrowed(F.softmax(scores + mask, axis=-1))
        context = paddle.matmul(weights, value).transpose([0, 2, 1, 3]).reshape([0, 0, self.hidden])
        return self.layer_norm(x + self.widened(self.dense(context)))


class AlbertLayer(Mixed):
    """One transformer layer, LayerNorm after each residual."""

    def __init__(self, config: AlbertConfig, prefix: str) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.hidden_act]
        self.attention = AlbertAttention(config, f"{prefix}attention.")
        self.ffn = linear(config.hidden_size, config.intermediate_size, f"{prefix}ffn")
        self.ffn_output = linear(config.intermediate_size, config.hidden_size, f"{prefix}ffn_output")
        self.full_layer_layer_norm = LayerNorm(
            config.hidden_size, config.layer_norm_eps, f"{prefix}full_layer_layer_norm"
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[B, S, H] to [B, S, H]."""
        attended = self.attention(x, mask)
        inner = self.activation(self.widened(self.ffn(self.narrowed(attended))))
        return self.full_layer_layer_norm(self.widened(self.ffn_output(self.narrowed(inner))) + attended)


class AlbertLayerGroup(nn.Layer):
    """The inner layers that share one set of weights between depths."""

    def __init__(self, config: AlbertConfig, group: int) -> None:
        super().__init__()
        self.albert_layers = nn.LayerList(
            [AlbertLayer(config, layer_prefix(group, index)) for index in range(config.inner_group_num)]
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[B, S, H] to [B, S, H]."""
        for layer in self.albert_layers:
            x = layer(x, mask)
        return x


class AlbertEncoder(Mixed):
    """Embedding size to hidden size, then every depth with its group's weights."""

    def __init__(self, config: AlbertConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding_hidden_mapping_in = linear(
            config.embedding_size, config.hidden_size, "encoder.embedding_hidden_mapping_in"
        )
        self.albert_layer_groups = nn.LayerList(
            [AlbertLayerGroup(config, group) for group in range(config.num_hidden_groups)]
        )

    def forward(self, x: Tensor, mask: Tensor) -> list[Tensor]:
        """[B, S, E] to the hidden states [B, S, H]: x mapped to H, then what comes after each depth."""
        return list(self._states(x, mask))

    # Paddle traces a generator as it is; the loop of a function it would rewrite, for three times as long.
    def _states(self, x: Tensor, mask: Tensor) -> Iterator[Tensor]:
        x = self.widened(self.embedding_hidden_mapping_in(self.narrowed(x)))
        yield x
        for layer in range(self.config.num_hidden_layers):
            x = self.albert_layer_groups[self.config.group_of_layer(layer)](x, mask)
            yield x


class AlbertModel(Mixed):
    """The whole encoder, for inference only: no dropout, no head mask.

    Takes int64 [B, S] inputs and returns (last_hidden_state [B, S, H], pooled_output [B, H] if there is a
    pooler); with ``sentence``, a layer of hidden states and mask, its vectors [B, D]; with ``hidden_states``
    also the hidden states of all depths, [B, S, L + 1, H].
    """

    def __init__(
        self, config: AlbertConfig, *, hidden_states: bool = False, sentence: nn.Layer | None = None
    ) -> None:
        super().__init__()
        self.sentence = sentence
        self.hidden_states = hidden_states
        self.embeddings = AlbertEmbeddings(config)
        self.encoder = AlbertEncoder(config)
        self.pooler = (
            linear(config.hidden_size, config.hidden_size, "pooler") if config.add_pooling_layer else None
        )

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor
    ) -> tuple[Tensor, ...]:
        """The outputs, as said above."""
        embedded = self.embeddings(input_ids, token_type_ids)
        mask = attention_mask.unsqueeze(1).unsqueeze(2).astype(self.wide)
        states = self.encoder(embedded, (1.0 - mask) * -10000.0)
        outputs = [states[-1]]
        if self.pooler is not None:
            outputs.append(self.widened(paddle.tanh(self.pooler(self.narrowed(states[-1][:, 0])))))
        if self.sentence is not None:
            outputs.append(self.sentence(states[-1], attention_mask))
        if self.hidden_states:
            outputs.append(paddle.stack(states, axis=2))
        return tuple(outputs)
