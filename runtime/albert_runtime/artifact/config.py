"""What an ALBERT model is: sizes, activation, and the one table of its tensors' names and shapes."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from ..errors import ArtifactError

ACTIVATIONS = ("gelu", "gelu_new", "relu")
# How the tensors of all layers begin.
LAYERS = "encoder.albert_layer_groups."

# Upper bounds keep a hostile file from asking for absurd loops or for sizes whose products overflow 63 bits.
_LIMITS = {
    "vocab_size": 2**24,
    "embedding_size": 2**16,
    "hidden_size": 2**16,
    "num_hidden_layers": 1024,
    "num_hidden_groups": 1024,
    "inner_group_num": 64,
    "num_attention_heads": 2**16,
    "intermediate_size": 2**20,
    "max_position_embeddings": 2**20,
    "type_vocab_size": 2**16,
}


@dataclass(frozen=True, slots=True)
class AlbertConfig:
    """One ALBERT model. Every field is explicit: libraries disagree on the defaults.

    ``hidden_act`` is ``gelu`` (erf), ``gelu_new`` (tanh) or ``relu``. ``padding_idx`` is the word id whose
    embedding is looked up as zeros (0 in models of PaddleNLP origin, None in those of Hugging Face origin).
    Raises ArtifactError naming the field if a value has a wrong type or is out of range.
    """

    vocab_size: int
    embedding_size: int
    hidden_size: int
    num_hidden_layers: int
    num_hidden_groups: int
    inner_group_num: int
    num_attention_heads: int
    intermediate_size: int
    hidden_act: str
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float
    pad_token_id: int
    padding_idx: int | None
    add_pooling_layer: bool
    initializer_range: float

    def __post_init__(self) -> None:
        for name, limit in _LIMITS.items():
            _check_int(name, getattr(self, name), 1, limit)
        _check_int("pad_token_id", self.pad_token_id, 0, self.vocab_size - 1)
        if self.padding_idx is not None:
            _check_int("padding_idx", self.padding_idx, 0, self.vocab_size - 1)
        for name in ("layer_norm_eps", "initializer_range"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ArtifactError(f"config field {name} must be a number, not {value!r}")
            if not (math.isfinite(value) and 0 < value < 1):
                raise ArtifactError(f"config field {name} must lie between 0 and 1, not {value!r}")
            object.__setattr__(self, name, float(value))
        if not isinstance(self.add_pooling_layer, bool):
            raise ArtifactError(
                f"config field add_pooling_layer must be true or false, not {self.add_pooling_layer!r}"
            )
        if self.hidden_act not in ACTIVATIONS:
            raise ArtifactError(
                f"config field hidden_act must be one of {', '.join(ACTIVATIONS)}, not {self.hidden_act!r}"
            )
        if self.hidden_size % self.num_attention_heads:
            raise ArtifactError(
                f"config field hidden_size ({self.hidden_size}) must be a multiple of num_attention_heads "
                f"({self.num_attention_heads})"
            )
        if self.num_hidden_groups > self.num_hidden_layers:
            raise ArtifactError(
                f"config field num_hidden_groups ({self.num_hidden_groups}) must not exceed "
                f"num_hidden_layers ({self.num_hidden_layers})"
            )

    @classmethod
    def from_dict(cls, mapping: Mapping[str, object]) -> "AlbertConfig":
        """Build from a mapping of exactly the fields; ArtifactError names a missing or unknown one."""
        names = [field.name for field in fields(cls)]
        for name in names:
            if name not in mapping:
                raise ArtifactError(f"config field {name} is missing")
        for name in mapping:
            if name not in names:
                raise ArtifactError(f"config field {name!r} is unknown")
        return cls(**mapping)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, object]:
        """All fields by name, ready for JSON."""
        return asdict(self)

    @property
    def head_size(self) -> int:
        """Columns of one attention head."""
        return self.hidden_size // self.num_attention_heads

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of the model by name, in model order; matrices are [in, out] as Paddle stores them."""
        embedding, hidden, inner = self.embedding_size, self.hidden_size, self.intermediate_size
        shapes: dict[str, tuple[int, ...]] = {
            "embeddings.word_embeddings.weight": (self.vocab_size, embedding),
            "embeddings.position_embeddings.weight": (self.max_position_embeddings, embedding),
            "embeddings.token_type_embeddings.weight": (self.type_vocab_size, embedding),
            "embeddings.layer_norm.weight": (embedding,),
            "embeddings.layer_norm.bias": (embedding,),
            "encoder.embedding_hidden_mapping_in.weight": (embedding, hidden),
            "encoder.embedding_hidden_mapping_in.bias": (hidden,),
        }
        for group in range(self.num_hidden_groups):
            for index in range(self.inner_group_num):
                prefix = layer_prefix(group, index)
                for part in ("query", "key", "value", "dense"):
                    shapes[f"{prefix}attention.{part}.weight"] = (hidden, hidden)
                    shapes[f"{prefix}attention.{part}.bias"] = (hidden,)
                shapes[f"{prefix}attention.layer_norm.weight"] = (hidden,)
                shapes[f"{prefix}attention.layer_norm.bias"] = (hidden,)
                shapes[f"{prefix}ffn.weight"] = (hidden, inner)
                shapes[f"{prefix}ffn.bias"] = (inner,)
                shapes[f"{prefix}ffn_output.weight"] = (inner, hidden)
                shapes[f"{prefix}ffn_output.bias"] = (hidden,)
                shapes[f"{prefix}full_layer_layer_norm.weight"] = (hidden,)
                shapes[f"{prefix}full_layer_layer_norm.bias"] = (hidden,)
        if self.add_pooling_layer:
            shapes["pooler.weight"] = (hidden, hidden)
            shapes["pooler.bias"] = (hidden,)
        return shapes

    def parameter_count(self) -> int:
        """Number of float parameters; the shared layers are counted once."""
        embedding, hidden, inner = self.embedding_size, self.hidden_size, self.intermediate_size
        rows = self.vocab_size + self.max_position_embeddings + self.type_vocab_size
        embeddings = rows * embedding + 2 * embedding + embedding * hidden + hidden
        attention = 4 * (hidden * hidden + hidden)
        layer = attention + 4 * hidden + (hidden * inner + inner) + (inner * hidden + hidden)
        pooler = hidden * hidden + hidden if self.add_pooling_layer else 0
        return embeddings + self.num_hidden_groups * self.inner_group_num * layer + pooler

    def group_of_layer(self, layer: int) -> int:
        """The layer group whose weights layer number ``layer`` of ``num_hidden_layers`` uses.

        The libraries' own expression, in floats: where the layers are no multiple of the groups, its rounding
        decides.
        """
        return int(layer / (self.num_hidden_layers / self.num_hidden_groups))


def layer_prefix(group: int, index: int) -> str:
    """Start of the tensor names of inner layer ``index`` of layer group ``group``."""
    return f"{LAYERS}{group}.albert_layers.{index}."


def _check_int(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ArtifactError(f"config field {name} must be a whole number, not {value!r}")
    if not low <= value <= high:
        raise ArtifactError(f"config field {name} must lie between {low} and {high}, not {value}")
