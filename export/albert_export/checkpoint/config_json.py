"""config.json of PaddleNLP and of Hugging Face: the encoder, the task and its labels."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from albert_runtime.artifact import tasks
from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.errors import ArtifactError

from ..errors import ExportError
from .stored_tensor import shown

PADDLENLP, HUGGING_FACE, TENSORFLOW = "paddlenlp", "huggingface", "tensorflow"
LIBRARY_TITLES = {PADDLENLP: "PaddleNLP", HUGGING_FACE: "Hugging Face", TENSORFLOW: "TensorFlow"}
# PaddleNLP builds the masked-LM head's LayerNorm without an epsilon, so Paddle's own default holds.
PADDLENLP_DECODER_NORM_EPS = 1e-5

_MAX_CONFIG_BYTES = 1 << 24  # id2label of a million labels
_DEFAULT_LABELS = 2
_MAX_LABELS = 1 << 20

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

    ``multi_label``: a classifier of sequences was trained to give any number of labels at a time. ``notes``:
    what the user should know about how the folder was read.
    """

    config: AlbertConfig
    library: str
    architecture: str | None
    labels: tuple[str, ...]
    tied: bool = True
    multi_label: bool = False
    notes: tuple[str, ...] = ()

    def task(self) -> str:
        """The task of the architecture; ExportError if it is not one of ours."""
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
    architecture = _architecture(values)
    outer = values
    match values.get("init_args"):
        case [dict(inner), *rest]:
            values = inner
            # AlbertForSequenceClassification(albert, num_classes): the count was often given by position.
            count = rest[0] if rest and type(rest[0]) is int else None
        case None:
            count = None
        case _:
            raise ArtifactError("init_args is not a list that starts with the encoder's arguments")
    model_type = outer.get("model_type", values.get("model_type", "albert"))
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
    labels = _labels({**values, **outer}, count)
    multi_label = outer.get("problem_type") == "multi_label_classification"
    return CheckpointConfig(config, library, architecture, labels, tied, multi_label)


def _architecture(values: Mapping[str, object]) -> str | None:
    """The class a config was written by; None if it does not say."""
    architectures = values.get("architectures")
    if architectures:
        if not isinstance(architectures, list) or not isinstance(architectures[0], str):
            raise ArtifactError("architectures is not a list of class names")
        return architectures[0]
    name = values.get("init_class")
    return name if isinstance(name, str) else None


def _labels(values: Mapping[str, object], count: int | None) -> tuple[str, ...]:
    """One name per column: id2label's, else label2id's, else LABEL_0 and so on."""
    for field in ("num_labels", "num_classes"):
        said = values.get(field)
        if said is None:
            continue
        if type(said) is not int or not 1 <= said <= _MAX_LABELS:
            raise ArtifactError(f"{field} must be a whole number from 1 to {_MAX_LABELS}")
        count = said
    names = _named_columns(values)
    if names is None:
        if count is not None and not 1 <= count <= _MAX_LABELS:
            raise ArtifactError(f"the number of classes must lie between 1 and {_MAX_LABELS}")
        return default_labels(_DEFAULT_LABELS if count is None else count)
    if count is not None and count != len(names):
        raise ArtifactError(f"id2label names {len(names)} labels, but num_labels is {count}")
    return names


def default_labels(count: int = _DEFAULT_LABELS) -> tuple[str, ...]:
    """LABEL_0 and so on."""
    return tuple(f"LABEL_{index}" for index in range(count))


def _named_columns(values: Mapping[str, object]) -> tuple[str, ...] | None:
    by_id, by_label = values.get("id2label"), values.get("label2id")
    if by_id is None and by_label is None:
        return None
    names: dict[str, object] = {}
    if by_id is not None:
        if not isinstance(by_id, dict):
            raise ArtifactError("id2label is not an object of numbers and names")
        names = by_id
    elif isinstance(by_label, dict):
        names = {str(number): name for name, number in by_label.items()}
        if len(names) != len(by_label):
            raise ArtifactError("label2id gives two labels the same number")
    else:
        raise ArtifactError("label2id is not an object of names and numbers")
    if not names:
        raise ArtifactError("id2label is empty")
    columns = [names.get(str(index)) for index in range(len(names))]
    if not all(isinstance(name, str | int | float) for name in columns):
        raise ArtifactError(f"id2label or label2id does not number its labels from 0 to {len(names) - 1}")
    labels = tuple(str(name) for name in columns)
    if any("\ud800" <= character <= "\udfff" for character in "".join(labels)):
        raise ArtifactError("id2label or label2id holds a lone surrogate, which is no text")
    return labels
