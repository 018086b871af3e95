"""The parts of an ALBERT, told from the expressions of a program in the order in which it computes them."""

import math
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from .expressions import (
    Activation,
    Context,
    Expression,
    Linear,
    Lookup,
    Norm,
    NotFitting,
    Probabilities,
    Rows,
    Scores,
    Softmax,
    Sum,
)
from .pooling import Greatest, Joined, Kept, Length, Normalized, Weighted, WeightedSum
from .probe import Probe
from .sentence import CLS, Vector, join, pooling_of


class Part(Enum):
    """What an expression is, in the words of messages."""

    WORDS = "word embeddings"
    TYPES = "token type embeddings"
    POSITIONS = "position embeddings"
    EMBEDDING_SUM = "a sum of embeddings"
    EMBEDDINGS = "the embeddings"
    HIDDEN = "a hidden state"
    OF_TOKENS = "a linear map of hidden states"
    OF_FIRST = "a linear map of first tokens"
    SCORES = "attention scores"
    PROBABILITIES = "attention probabilities"
    CONTEXT = "attention's values"
    ATTENTION_DENSE = "attention's output"
    ATTENTION_SUM = "attention's output and the hidden state"
    ATTENDED = "the normalised output of attention"
    FFN = "the feed-forward map"
    ACTIVATED = "the feed-forward activation"
    FFN_DENSE = "the feed-forward output"
    FFN_SUM = "the feed-forward output and its input"
    POOLED = "the pooled output"
    CLASSIFIED = "a linear map of the pooled output"
    WORD_DENSE = "the activation of a masked-LM head"
    WORD_NORM = "the states of a masked-LM head"
    WORD_SCORES = "scores of words"
    PROBABILITY = "probabilities made of logits"
    VECTOR = "a vector of the text"
    VECTOR_STEP = "a step of a vector of the text"


_NORM_OF = {
    Part.EMBEDDING_SUM: Part.EMBEDDINGS,
    Part.ATTENTION_SUM: Part.ATTENDED,
    Part.FFN_SUM: Part.HIDDEN,
    Part.WORD_DENSE: Part.WORD_NORM,
}
_LINEAR_OF = {
    Part.EMBEDDINGS: Part.HIDDEN,
    Part.HIDDEN: Part.OF_TOKENS,
    Part.CONTEXT: Part.ATTENTION_DENSE,
    Part.ATTENDED: Part.FFN,
    Part.ACTIVATED: Part.FFN_DENSE,
    Part.POOLED: Part.CLASSIFIED,
    Part.WORD_NORM: Part.WORD_SCORES,
}
# Fields of Layer.
_LINEAR_NAMES = {Part.ATTENTION_DENSE: "dense", Part.FFN: "ffn", Part.FFN_DENSE: "ffn_dense"}
_ACTIVATIONS = ("gelu", "gelu_new", "relu")
_MASKED = -100.0


@dataclass(frozen=True)
class Role:
    """What an expression is, and in which layer, counted from 0; hidden state number 0 comes before it."""

    part: Part
    layer: int = 0

    def __str__(self) -> str:
        return self.part.value


@dataclass
class Layer:
    """The parameters of one layer, as the program uses them."""

    scores: Scores | None = None
    context: Context | None = None
    dense: Linear | None = None
    attention_norm: Norm | None = None
    ffn: Linear | None = None
    activation: Activation | None = None
    ffn_dense: Linear | None = None
    ffn_norm: Norm | None = None


@dataclass
class Parts:
    """An ALBERT's parts as far as they have come up, and the role of each expression."""

    probe: Probe
    tables: dict[Part, Lookup] = field(default_factory=dict)
    inputs: dict[Part, str | None] = field(default_factory=dict)  # by the table it is looked up in
    norm: Norm | None = None
    mapping: Linear | None = None
    layers: list[Layer] = field(default_factory=list)
    masks: list[tuple[Scores, np.ndarray | None]] = field(default_factory=list)
    poolers: dict[int, Linear] = field(default_factory=dict)  # by the layer before them
    vectors: dict[int, Vector] = field(default_factory=dict)  # by the expression's id, as roles are
    sums: dict[int, frozenset[int]] = field(default_factory=dict)  # the ids of the lookups in them
    roles: dict[int, Role] = field(default_factory=dict)

    def role(self, of: Expression) -> Role:
        """What an expression is that was added."""
        return self.roles[id(of)]

    def add(self, of: Expression) -> None:
        """Find out what an expression is, after those that it reads; NotFitting if no ALBERT has it."""
        match of:
            case Lookup():
                role = self._lookup(of)
            case Sum():
                role = self._sum(of)
            case Norm():
                role = self._norm(of)
            case Linear():
                role = self._linear(of)
            case Activation():
                role = self._activation(of)
            case Scores():
                role = self._scores(of)
            case Probabilities():
                role = Role(Part.PROBABILITIES, self.role(of.scores).layer)
            case Context():
                role = self._context(of)
            case Softmax():
                role = self._probability(of)
            case WeightedSum() | Greatest() | Joined() | Length() | Normalized():
                role = self._vector(of)
            case Weighted() | Kept():
                role = Role(Part.VECTOR_STEP, self.role(of.x).layer)
            case _:
                raise NotFitting("it takes a mean that is no part of a LayerNorm")
        self.roles[id(of)] = role

    # ---- Embeddings

    def _lookup(self, of: Lookup) -> Role:
        name = self.probe.input_of(of.indices)
        length = self.probe.length
        if (
            name is None
            and np.array_equal(of.indices[:length], np.arange(length))
            and not np.ptp(of.indices.reshape(-1, length), axis=0).any()
        ):
            return self._table(Part.POSITIONS, of, None)
        if name is None:
            # Left out of the program, so that every token has the first type.
            if of.indices.any():
                raise NotFitting("it looks up other rows than those of word ids, token types or positions")
            return self._table(Part.TYPES, of, None)
        taken = self.tables.get(Part.WORDS)
        if taken is None:
            return self._table(Part.WORDS, of, name)
        if name == self.inputs[Part.WORDS]:
            raise NotFitting(f"it looks up {name} in a second table")
        if len(taken.table) < len(of.table):
            # Types came first: they are fewer than words.
            first = self.inputs[Part.WORDS]
            self.roles[id(taken)] = self._table(self._other_input(first), taken, first)
            del self.tables[Part.WORDS]
            return self._table(Part.WORDS, of, name)
        return self._table(self._other_input(name), of, name)

    def _other_input(self, name: str | None) -> Part:
        """What an input that is no word ids numbers: positions by its name, else types."""
        return Part.POSITIONS if name is not None and "pos" in name.lower() else Part.TYPES

    def _table(self, part: Part, of: Lookup, name: str | None) -> Role:
        if part in self.tables and part != Part.WORDS:
            raise NotFitting(f"it looks up {part.value} a second time")
        self.tables[part], self.inputs[part] = of, name
        return Role(part)

    # ---- Sums and norms

    def _sum(self, of: Sum) -> Role:
        x, y = self.role(of.x.of), self.role(of.y.of)
        parts = {x.part, y.part}
        if parts <= {Part.WORDS, Part.TYPES, Part.POSITIONS, Part.EMBEDDING_SUM}:
            first, second = (self.sums.get(id(one), frozenset((id(one),))) for one in (of.x.of, of.y.of))
            if first & second:
                raise NotFitting("it adds embeddings a second time")
            self.sums[id(of)] = first | second
            return Role(Part.EMBEDDING_SUM)
        if of.x.all and of.y.all and x.layer == y.layer:
            if parts == {Part.ATTENTION_DENSE, Part.HIDDEN}:
                return Role(Part.ATTENTION_SUM, x.layer)
            if parts == {Part.FFN_DENSE, Part.ATTENDED}:
                return Role(Part.FFN_SUM, x.layer)
        raise NotFitting(f"it adds {x} and {y}")

    def _norm(self, of: Norm) -> Role:
        role = self.role(of.x.of)
        result = _NORM_OF.get(role.part)
        if not of.x.all or result is None or (result is Part.EMBEDDINGS and self.norm is not None):
            raise NotFitting(f"it normalises {role}")
        if result is Part.EMBEDDINGS:
            self.norm = of
        elif result is Part.ATTENDED:
            self.layers[role.layer].attention_norm = of
        elif result is Part.HIDDEN:
            self.layers[role.layer].ffn_norm = of
            return Role(result, role.layer + 1)
        return Role(result, role.layer)

    # ---- Linear maps and their activations

    def _linear(self, of: Linear) -> Role:
        role = self.role(of.x.of)
        if not of.x.all:
            if role.part is Part.HIDDEN and np.array_equal(of.x.rows, self._firsts()):
                return Role(Part.OF_FIRST, role.layer)
            raise NotFitting(f"of {role} it takes other rows than the first tokens'")
        if role.part is Part.VECTOR:
            self.vectors[id(of)] = self.vectors[id(of.x.of)].then(of)
            return role
        result = _LINEAR_OF.get(role.part)
        if result is None:
            raise NotFitting(f"it multiplies {role}")
        if result is Part.HIDDEN:
            if self.mapping is not None:
                raise NotFitting(
                    "it is a second map of the embeddings, of which an ALBERT makes one "
                    "(embedding_hidden_mapping_in) to its hidden size"
                )
            self.mapping = of
        elif result in _LINEAR_NAMES:
            layer, name = self.layers[role.layer], _LINEAR_NAMES[result]
            if getattr(layer, name) is not None:
                raise NotFitting(f"it is a second map of {role}")
            setattr(layer, name, of)
        return Role(result, role.layer)

    def _firsts(self) -> np.ndarray:
        """The rows of each text's first token."""
        return np.arange(self.probe.batch) * self.probe.length

    def _activation(self, of: Activation) -> Role:
        role = self.role(of.x)
        if role.part == Part.FFN and of.name in _ACTIVATIONS:
            self.layers[role.layer].activation = of
            return Role(Part.ACTIVATED, role.layer)
        if role.part == Part.OF_TOKENS and of.name in _ACTIVATIONS:
            return Role(Part.WORD_DENSE, role.layer)
        if role.part == Part.OF_FIRST and of.name == "tanh" and role.layer not in self.poolers:
            assert isinstance(of.x, Linear)
            self.poolers[role.layer] = of.x
            return Role(Part.POOLED, role.layer)
        if role.part is Part.VECTOR:
            self.vectors[id(of)] = self.vectors[id(of.x)].activated(of)
            return role
        if of.name == "sigmoid":
            return self._probability(of)
        raise NotFitting(f"it makes {of.name} of {role}")

    def _probability(self, of: Activation | Softmax) -> Role:
        role = self.role(of.x)
        if role.part not in (Part.CLASSIFIED, Part.OF_TOKENS, Part.WORD_SCORES):
            raise NotFitting(f"it makes probabilities of {role}")
        return Role(Part.PROBABILITY, role.layer)

    # ---- Vectors of texts

    def _vector(self, of: WeightedSum | Greatest | Joined | Length | Normalized) -> Role:
        match of:
            case WeightedSum() | Greatest():
                role = self.role(of.x)
                if role.part is not Part.HIDDEN:
                    raise NotFitting(f"it pools {role}")
                kept = self.masks[role.layer - 1][1] if 0 < role.layer <= len(self.masks) else None
                everything = np.ones((self.probe.batch, self.probe.length), bool)
                self.vectors[id(of)] = pooling_of(of, everything if kept is None else kept)
                return Role(Part.VECTOR, role.layer)
            case Joined():
                self.vectors[id(of)] = join([self.vector_of(part) for part in of.parts])
                return Role(Part.VECTOR, self.role(of.parts[0].of).layer)
            case Length():
                return Role(Part.VECTOR_STEP, self.role(of.x.of).layer)
            case Normalized():
                self.vectors[id(of)] = self.vector_of(of.x).normalized()
                return Role(Part.VECTOR, self.role(of.x.of).layer)

    def vector_of(self, rows: Rows) -> Vector:
        """The vector of a text that rows are; NotFitting if they are none."""
        role = self.role(rows.of)
        if role.part is Part.VECTOR and rows.all:
            return self.vectors[id(rows.of)]
        if role.part is Part.HIDDEN and np.array_equal(rows.rows, self._firsts()):
            return CLS
        raise NotFitting(f"it makes a vector of the text of {role}")

    # ---- Attention

    def _scores(self, of: Scores) -> Role:
        q, k = self.role(of.q), self.role(of.k)
        if q.part != Part.OF_TOKENS or k.part != Part.OF_TOKENS or q.layer != k.layer:
            raise NotFitting(f"it multiplies {q} and {k}")
        size = of.q_columns.shape[1]
        if not math.isclose(of.scale, 1 / math.sqrt(size), rel_tol=2e-3):
            raise NotFitting(
                f"it scales attention's scores by {of.scale:.6g}, an ALBERT with {size} columns a head by "
                f"{1 / math.sqrt(size):.6g}"
            )
        if q.layer != len(self.layers):
            raise NotFitting(f"it is a second attention on hidden state {q.layer}")
        self.layers.append(Layer(scores=of))
        self.masks.append((of, self._kept(of)))
        return Role(Part.SCORES, q.layer)

    def _kept(self, of: Scores) -> np.ndarray | None:
        """Which keys [B, T] scores attend to; None for all of them."""
        if of.bias is None or not of.bias.any():
            return None
        kept, masked = of.bias == 0, of.bias < _MASKED
        if not (kept | masked).all():
            raise NotFitting("it adds to attention's scores what is no mask")
        if (kept != kept[:, :1, :1]).any():
            raise NotFitting("its mask differs from token to token, as in a decoder")
        return np.asarray(kept[:, 0, 0])

    def _context(self, of: Context) -> Role:
        scores, v = self.role(of.probabilities), self.role(of.v)
        if v.part != Part.OF_TOKENS or v.layer != scores.layer:
            raise NotFitting(f"it multiplies attention probabilities and {v}")
        self.layers[scores.layer].context = of
        return Role(Part.CONTEXT, scores.layer)


def inputs_of(of: Expression) -> list[Expression]:
    """The expressions that one reads."""
    found: list[Expression] = []
    for value in vars(of).values():
        if isinstance(value, Expression):
            found.append(value)
        elif isinstance(value, Rows):
            found.append(value.of)
        elif isinstance(value, tuple):
            found.extend(part.of for part in value if isinstance(part, Rows))
    return found
