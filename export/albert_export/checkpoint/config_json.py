"""config.json of PaddleNLP and of Hugging Face: the encoder, the task and its labels."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from albert_runtime.artifact import tasks
from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.errors import ArtifactError

from ..errors import ExportError
from .labels import MULTI_LABEL, column_names, default_labels, label_count
from .stored_tensor import shown

PADDLENLP, HUGGING_FACE, TENSORFLOW = "paddlenlp", "huggingface", "tensorflow"
LIBRARY_TITLES = {PADDLENLP: "PaddleNLP", HUGGING_FACE: "Hugging Face", TENSORFLOW: "TensorFlow"}
# PaddleNLP builds the masked-LM head's LayerNorm without an epsilon, so Paddle's own default holds.
PADDLENLP_DECODER_NORM_EPS = 1e-5

_MAX_CONFIG_BYTES = 1 << 24  # id2label of a million labels

# A field that a config leaves out has the default of the library that wrote it; these differ.
_COMMON_DEFAULTS: dict[str, object] = {
    "vocab_size": 30000,
    "embedding_size": 128,
    "num_hidden_layers": 12,
    "num_hidden_groups": 1,
    "inner_group_num": 1,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
    "add_pooling_layer": True,
    "initializer_range": 0.02,
}
_DEFAULTS: dict[str, dict[str, object]] = {
    PADDLENLP: {
        "hidden_size": 768,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_act": "gelu",
    },
    HUGGING_FACE: {
        "hidden_size": 4096,
        "num_attention_heads": 64,
        "intermediate_size": 16384,
        "hidden_act": "gelu_new",
    },
}
_DEFAULTS[TENSORFLOW] = _DEFAULTS[HUGGING_FACE]  # transformers took its defaults from Google's code
# Other spellings of the same two functions.
_ACTIVATIONS = {
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu_new",
    "gelu_accurate": "gelu_new",
    "gelu_fast": "gelu_new",
}
_ARCHITECTURES = {
    "AlbertModel": tasks.MODEL,
    "AlbertForMaskedLM": tasks.MASKED_LM,
    "AlbertForPretraining": tasks.PRETRAINING,
    "AlbertForPreTraining": tasks.PRETRAINING,
    "AlbertForSequenceClassification": tasks.SEQUENCE_CLASSIFICATION,
    "AlbertForTokenClassification": tasks.TOKEN_CLASSIFICATION,
    "AlbertForQuestionAnswering": tasks.QUESTION_ANSWERING,
    "AlbertForMultipleChoice": tasks.MULTIPLE_CHOICE,
}


@dataclass(frozen=True)
class CheckpointConfig:
    """What a config says. ``labels`` are there for every task; ``tied``: the decoder is the word table.

    ``multi_label``: a classifier of sequences was trained to give any number of labels at a time. ``said``:
    all of the config, for what it says of the columns, whose number the tensors tell. ``notes``: what the
    user should know about how the folder was read.
    """

    config: AlbertConfig
    library: str
    architecture: str | None
    labels: tuple[str, ...]
    tied: bool = True
    multi_label: bool = False
    said: Mapping[str, object] = field(default_factory=dict, compare=False)
    notes: tuple[str, ...] = ()

    @property
    def says_task(self) -> bool:
        """Whether the architecture is there and one of the two libraries'."""
        return self.architecture in _ARCHITECTURES

    def for_task(self, task: str) -> "CheckpointConfig":
        """The same model with the head of ``task``."""
        name = next(name for name, known in _ARCHITECTURES.items() if known == task)
        return replace(self, architecture=name)

    def task(self) -> str:
        """The task of the architecture, model if there is none; ExportError if it is not one of ours."""
        if self.architecture is None:
            return tasks.MODEL
        if self.architecture not in _ARCHITECTURES:
            raise ExportError(
                f"architecture {shown(self.architecture)} is unknown; say with --task what to export "
                f"({', '.join(tasks.TASKS)})"
            )
        return _ARCHITECTURES[self.architecture]


def read_config(path: Path) -> Mapping[str, object]:
    """The JSON object in ``path``; ArtifactError if there is none."""
    if path.stat().st_size > _MAX_CONFIG_BYTES:
        raise ArtifactError("the file is far larger than a config can be")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"not readable as JSON ({error})") from None
    if not isinstance(values, dict):
        raise ArtifactError("holds no JSON object")
    return values


def library_of_config(values: Mapping[str, object]) -> str | None:
    """The library whose mark the config carries; None without a mark."""
    if "paddlenlp_version" in values or "init_class" in values or "init_args" in values:
        return PADDLENLP
    return HUGGING_FACE if "transformers_version" in values else None


def parse_config(values: Mapping[str, object], library: str) -> CheckpointConfig:
    """The model of a config that ``library`` wrote; PaddleNLP's also in the older form that nests init_args.

    Raises ArtifactError naming the field, or ExportError for a model that is no ALBERT of ours.
    """
    outer = values = _without_nulls(values)
    architecture = _architecture(values)
    match values.get("init_args"):
        case [dict(inner), *rest]:
            values = _without_nulls(inner)
            # AlbertForSequenceClassification(albert, num_classes): the count was often given by position.
            count = rest[0] if rest and type(rest[0]) is int else None
        case None:
            count = None
        case _:
            raise ArtifactError("init_args is not a list that starts with the encoder's arguments")
    model_type = outer.get("model_type") or values.get("model_type") or "albert"
    if model_type != "albert":
        raise ExportError(f"model_type is {model_type!r:.60}; only albert checkpoints can be exported")
    positions = values.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise ExportError(f"position_embedding_type is {positions!r:.60}; only absolute ones can be exported")
    defaults = {**_COMMON_DEFAULTS, **_DEFAULTS[library]}
    fields = {name: values.get(name, default) for name, default in defaults.items()}
    activation = fields["hidden_act"]
    if isinstance(activation, str):
        fields["hidden_act"] = _ACTIVATIONS.get(activation, activation)
    config = AlbertConfig.from_dict({**fields, "padding_idx": 0 if library == PADDLENLP else None})
    tied = outer.get("tie_word_embeddings", True)
    if not isinstance(tied, bool):
        raise ArtifactError(f"tie_word_embeddings must be true or false, not {tied!r:.40}")
    said = {**values, **outer}
    count = label_count(said, count)
    if count is not None:
        said["num_labels"] = count
    labels = column_names(said) or default_labels(*([] if count is None else [count]))
    multi_label = outer.get("problem_type") == MULTI_LABEL
    return CheckpointConfig(config, library, architecture, labels, tied, multi_label, said)


def _without_nulls(values: Mapping[str, object]) -> Mapping[str, object]:
    """What a config says: a field that is null has its default."""
    return {name: value for name, value in values.items() if value is not None}


def _architecture(values: Mapping[str, object]) -> str | None:
    """The class a config was written by; None if it does not say."""
    architectures = values.get("architectures")
    if architectures:
        if not isinstance(architectures, list) or not isinstance(architectures[0], str):
            raise ArtifactError("architectures is not a list of class names")
        return architectures[0]
    name = values.get("init_class")
    return name if isinstance(name, str) else None
