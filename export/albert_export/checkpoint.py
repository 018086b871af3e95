"""Local checkpoints: a PaddleNLP folder (config.json + model_state.pdparams) or a bare .pdparams file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from albert_runtime.config import AlbertConfig
from albert_runtime.errors import ArtifactError

from .errors import ExportError
from .tensor_pickle import read_state_dict

WEIGHTS_NAME = "model_state.pdparams"
CONFIG_NAMES = ("config.json", "model_config.json")
TOKENIZER_NAME = "tokenizer.json"

_MAX_CONFIG_BYTES = 1 << 20
_PREFIXES = ("transformer.", "albert.")
_IGNORED = ("StructuredToParameterName@@", "embeddings.position_ids")
# A pretraining checkpoint carries these heads; the plain encoder has no use for them.
_PRETRAINING_HEADS = ("predictions.", "sop_classifier.")

# PaddleNLP's own class defaults, for fields that a config leaves out. padding_idx is not among a config's
# fields: every model of PaddleNLP origin looks word 0 up as zeros.
_PADDLENLP_DEFAULTS: dict[str, object] = {
    "vocab_size": 30000,
    "embedding_size": 128,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_hidden_groups": 1,
    "inner_group_num": 1,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
    "add_pooling_layer": True,
    "initializer_range": 0.02,
}


@dataclass(frozen=True)
class Checkpoint:
    """A PaddleNLP folder: its model, and the files that are there."""

    folder: Path
    config: AlbertConfig
    weights: Path | None
    tokenizer: Path | None

    def weights_file(self) -> Path:
        """The weight file; ExportError naming what is missing if there is none."""
        if self.weights is not None:
            return self.weights
        if any(self.folder.glob("*.safetensors")) or any(self.folder.glob("*.bin")):
            raise ExportError(
                f"{self.folder} holds a Hugging Face checkpoint; "
                f"this version reads PaddleNLP's {WEIGHTS_NAME} only"
            )
        raise ExportError(
            f"{self.folder} holds no {WEIGHTS_NAME}; name the file with --weights or use --random-weights"
        )


def read_folder(folder: Path) -> Checkpoint:
    """Read a PaddleNLP folder's config. Raises ArtifactError or ExportError naming the file and the field."""
    config_file = next((folder / name for name in CONFIG_NAMES if (folder / name).is_file()), None)
    if config_file is None:
        raise ExportError(f"{folder} is no checkpoint folder: it holds no {' or '.join(CONFIG_NAMES)}")
    try:
        config = parse_config(_read_json(config_file))
    except (ArtifactError, ExportError) as error:
        raise type(error)(f"{config_file}: {error}") from None
    weights, tokenizer = folder / WEIGHTS_NAME, folder / TOKENIZER_NAME
    return Checkpoint(
        folder, config, weights if weights.is_file() else None, tokenizer if tokenizer.is_file() else None
    )


def parse_config(values: Mapping[str, object]) -> AlbertConfig:
    """AlbertConfig of a PaddleNLP config: today's flat form or the older one that nests ``init_args``."""
    architecture = _architecture(values)
    match values.get("init_args"):
        case [dict(inner), *_]:
            values = inner
        case None:
            pass
        case _:
            raise ArtifactError("init_args is not a list that starts with the encoder's arguments")
    model_type = values.get("model_type", "albert")
    if model_type != "albert":
        raise ExportError(f"model_type is {model_type!r}; only albert checkpoints can be exported")
    if architecture not in (None, "AlbertModel"):
        raise ExportError(
            f"architecture {architecture} has a task head, which this version does not support yet; "
            "only AlbertModel can be exported"
        )
    known = {name: values.get(name, default) for name, default in _PADDLENLP_DEFAULTS.items()}
    return AlbertConfig.from_dict({**known, "padding_idx": 0})


def _architecture(values: Mapping[str, object]) -> str | None:
    """The class a config was written by; None if it does not say."""
    architectures = values.get("architectures")
    if architectures:
        if not isinstance(architectures, list) or not isinstance(architectures[0], str):
            raise ArtifactError("architectures is not a list of class names")
        return architectures[0]
    name = values.get("init_class")
    return name if isinstance(name, str) else None


def check_same_model(variant: str, wanted: AlbertConfig, checkpoint: Checkpoint) -> None:
    """Refuse weights whose folder describes another model: equal shapes could hide another activation."""
    ignored = {"initializer_range", "pad_token_id"}
    differences = [
        f"{field.name} {getattr(checkpoint.config, field.name)!r} instead of {getattr(wanted, field.name)!r}"
        for field in fields(AlbertConfig)
        if field.name not in ignored and getattr(checkpoint.config, field.name) != getattr(wanted, field.name)
    ]
    if differences:
        raise ExportError(
            f"{checkpoint.folder} is not {variant}: {', '.join(differences)}; "
            "to export that model give the folder as MODEL"
        )


def read_weights(path: Path, config: AlbertConfig) -> tuple[dict[str, np.ndarray], list[str]]:
    """Every tensor of ``config`` from a .pdparams file as float32, and the pretraining heads left out.

    Raises ExportError that lists what is missing, unexpected, mis-shaped, of another type or not finite.
    """
    tensors: dict[str, np.ndarray] = {}
    heads: list[str] = []
    unexpected: list[str] = []
    shapes = config.tensor_shapes()
    for raw_name, value in read_state_dict(path).items():
        name = _strip_prefix(raw_name)
        if name in _IGNORED:
            continue
        if name in shapes and isinstance(value, np.ndarray) and name not in tensors:
            tensors[name] = value
        elif name.startswith(_PRETRAINING_HEADS):
            heads.append(name)
        else:
            unexpected.append(raw_name)
    problems = {
        "missing": [name for name in shapes if name not in tensors],
        "unexpected": unexpected,
        "of another shape": [
            f"{name} {list(value.shape)} instead of {list(shapes[name])}"
            for name, value in tensors.items()
            if value.shape != shapes[name]
        ],
        "of another type": [
            f"{name} {value.dtype}"
            for name, value in tensors.items()
            if value.dtype.newbyteorder("=") not in (np.float32, np.float16)
        ],
    }
    if any(problems.values()):
        listed = "; ".join(f"{kind}: {_shorten(names)}" for kind, names in problems.items() if names)
        raise ExportError(f"{path} does not fit this model: {listed}")
    for name, value in tensors.items():
        tensors[name] = np.ascontiguousarray(value, np.float32)
        if not np.isfinite(value).all():
            raise ExportError(
                f"{path} holds a value in {name} that is no finite number; the checkpoint is damaged"
            )
    return tensors, heads


def _strip_prefix(name: str) -> str:
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name


def _shorten(names: list[str], limit: int = 8) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _read_json(path: Path) -> Mapping[str, object]:
    if path.stat().st_size > _MAX_CONFIG_BYTES:
        raise ArtifactError("the file is far larger than a config can be")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"not readable as JSON ({error})") from None
    if not isinstance(values, dict):
        raise ArtifactError("holds no JSON object")
    return values
