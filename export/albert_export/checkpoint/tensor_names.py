"""From a checkpoint's tensors to the model's: names, layouts, tied tensors, and an account of every one.

The model's names and layouts are PaddleNLP's. Hugging Face spells its LayerNorms differently and stores
linear maps as [out, in]; where one is square nothing but the table below knows that it must be transposed.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.artifact.tasks import Head

from ..errors import ExportError
from .config_json import HUGGING_FACE, PADDLENLP, TENSORFLOW
from .stored_tensor import FLOATS, StoredTensor, StoredTensors, shown
from .tensorflow.names import model_tensors, stored_as_rows

Shape = tuple[int, ...]

WORDS, DECODER = "embeddings.word_embeddings.weight", "predictions.decoder.weight"
_BIAS, _DECODER_BIAS = "predictions.bias", "predictions.decoder.bias"
_PREFIXES = {PADDLENLP: ("transformer.", "albert."), HUGGING_FACE: ("albert.",), TENSORFLOW: ()}
_IGNORED = ("StructuredToParameterName@@", "embeddings.position_ids")
# Tables of rows, which both libraries store alike; every other matrix is a linear map.
_TABLES = (
    WORDS,
    "embeddings.position_embeddings.weight",
    "embeddings.token_type_embeddings.weight",
    DECODER,
)
# TensorFlow's names of what a LayerNorm holds, in old conversions; transformers reads them, too.
_LAYER_NORMS = ("LayerNorm", "full_layer_layer_norm")
_TENSORFLOW = {"gamma": "weight", "beta": "bias"}
# What a task may leave unread: the pooler, and the heads that pretraining leaves in a checkpoint.
PRETRAINED = ("pooler.", "predictions.", "sop_classifier.")
ENCODER = ("embeddings.", "encoder.")
HEADS = (*PRETRAINED, "classifier.", "qa_outputs.")
_LISTED = 8


@dataclass(frozen=True)
class ModelTensor:
    """A stored tensor in its place in the model."""

    stored: StoredTensor
    transposed: bool

    @property
    def shape(self) -> Shape:
        """The shape in the model's layout."""
        return self.stored.shape[::-1] if self.transposed else self.stored.shape

    def values(self) -> np.ndarray:
        """float32, C-contiguous, in the model's layout; ArtifactError for values that are no numbers."""
        values = self.stored.float32()
        return np.ascontiguousarray(values.T if self.transposed else values)


def written_by_paddlenlp(names: Iterable[str]) -> bool:
    """Whether these are PaddleNLP's names: it spells the embeddings' LayerNorm in lower case."""
    return any(name.endswith("embeddings.layer_norm.weight") for name in names)


def by_model_name(stored: StoredTensors, library: str) -> tuple[dict[str, ModelTensor], list[str]]:
    """The tensors under the model's names, and the names of whatever else the checkpoint holds.

    A second tensor of the same name counts as something else. ``predictions.decoder.bias`` is the other name
    of ``predictions.bias`` in both libraries, and the one that wins where a file's two differ.
    """
    placed: dict[str, ModelTensor] = {}
    others: list[str] = []
    if library == TENSORFLOW:
        stored = model_tensors(stored)
    for raw_name, tensor in stored.items():
        name = _model_name(raw_name, library)
        if name in _IGNORED:
            continue
        if isinstance(tensor, StoredTensor) and name not in placed:
            placed[name] = ModelTensor(tensor, _is_turned(name, tensor.shape, library))
        else:
            others.append(raw_name)
    read = placed.pop(_DECODER_BIAS, None)
    if read is not None:
        replaced = placed.get(_BIAS, read)
        placed[_BIAS] = read
        if not equal(replaced, read):
            placed[f"{_BIAS} ({_DECODER_BIAS} replaces it)"] = replaced
    return placed, others


def _model_name(name: str, library: str) -> str:
    for prefix in _PREFIXES[library]:
        if name.startswith(prefix):
            name = name[len(prefix) :]
            break
    if library == HUGGING_FACE:
        parts = name.split(".")
        # One of PaddleNLP's own spellings would be a tensor that transformers does not read.
        if "layer_norm" in parts:
            return "?" + name
        if len(parts) > 1 and parts[-2] in _LAYER_NORMS:
            parts[-1] = _TENSORFLOW.get(parts[-1], parts[-1])
        name = ".".join("layer_norm" if part == "LayerNorm" else part for part in parts)
    return name


def _is_turned(name: str, shape: Shape, library: str) -> bool:
    """Whether the library stores this tensor as [out, in], the other way round than our model."""
    if len(shape) != 2 or library == PADDLENLP:
        return False
    if library == TENSORFLOW:
        return stored_as_rows(name)
    return name.endswith(".weight") and name not in _TABLES


def equal(one: ModelTensor, other: ModelTensor) -> bool:
    """Whether two tensors hold the same numbers."""
    return one.shape == other.shape and (
        one.stored is other.stored or np.array_equal(one.values(), other.values())
    )


def is_tied(placed: Mapping[str, ModelTensor], library: str, wished: bool, *, masked_lm: bool) -> bool:
    """Whether the masked-LM decoder is the word table. ``wished``: the config's tie_word_embeddings.

    transformers ties what the config says, whatever decoder the file holds. PaddleNLP's masked LM is tied
    since 2.6.1, its pretraining model never; it stores both, so that the numbers tell.
    """
    words, decoder = placed.get(WORDS), placed.get(DECODER)
    if library != PADDLENLP and wished:
        return True
    if decoder is None:
        return library == PADDLENLP and wished and masked_lm
    return words is not None and equal(words, decoder)


def arrange(
    stored: StoredTensors,
    library: str,
    config: AlbertConfig,
    head: Head,
    ignorable: tuple[str, ...],
) -> tuple[dict[str, ModelTensor], list[str]]:
    """Every tensor of the model in model order, and the names left out, which start with ``ignorable``.

    Raises ExportError that lists what is missing, unexpected, mis-shaped or of a type that is no float.
    """
    placed, others = by_model_name(stored, library)
    turn_old_decoder(placed, config)
    if head.tied_decoder and DECODER in placed and WORDS in placed and equal(placed[WORDS], placed[DECODER]):
        del placed[DECODER]  # stored twice, as tied tensors are
    return _account(placed, others, {**config.tensor_shapes(), **head.tensor_shapes(config)}, ignorable)


def turn_old_decoder(placed: dict[str, ModelTensor], config: AlbertConfig) -> None:
    """Up to 2.5.2 PaddleNLP stored the masked-LM decoder as [E, V]; give it today's [V, E]."""
    decoder, today = placed.get(DECODER), (config.vocab_size, config.embedding_size)
    if decoder is not None and decoder.shape == today[::-1] != today:
        placed[DECODER] = ModelTensor(decoder.stored, not decoder.transposed)


def _account(
    placed: Mapping[str, ModelTensor],
    others: Collection[str],
    shapes: Mapping[str, Shape],
    ignorable: tuple[str, ...],
) -> tuple[dict[str, ModelTensor], list[str]]:
    left_out = [name for name in placed if name not in shapes and name.startswith(ignorable)]
    unexpected = [name for name in placed if name not in shapes and name not in left_out]
    taken = {name: placed[name] for name in shapes if name in placed}
    problems = {
        "missing": [name for name in shapes if name not in placed],
        "unexpected": [placed[name].stored.name for name in unexpected] + list(others),
        "of another shape": [
            f"{tensor.stored.name} {list(tensor.stored.shape)} instead of {_as_stored(tensor, shapes[name])}"
            for name, tensor in taken.items()
            if tensor.shape != shapes[name]
        ],
        "of another type": [
            f"{tensor.stored.name} {tensor.stored.dtype}"
            for tensor in taken.values()
            if tensor.stored.dtype not in FLOATS
        ],
    }
    if any(problems.values()):
        listed = "; ".join(f"{kind}: {_shorten(names)}" for kind, names in problems.items() if names)
        raise ExportError(f"the checkpoint does not fit this model: {listed}")
    return taken, left_out


def _as_stored(tensor: ModelTensor, shape: Shape) -> list[int]:
    return list(shape[::-1] if tensor.transposed else shape)


def _shorten(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(shown(name, 160) for name in names[:_LISTED]) + more
