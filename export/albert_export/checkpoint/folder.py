"""Checkpoint folders of PaddleNLP and Hugging Face: their config, their weight files, who wrote them."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.errors import ArtifactError

from ..errors import ExportError
from .config_json import (
    HUGGING_FACE,
    PADDLENLP,
    CheckpointConfig,
    library_of_config,
    parse_config,
    read_config,
)
from .labels import default_labels
from .sentence_folder import cross_encoder_said
from .tensor_names import written_by_paddlenlp
from .weight_files import SUFFIXES, TORCH, WEIGHT_NAMES, is_pdparams, read_tensors, weight_files

CONFIG_NAMES = ("config.json", "model_config.json")


@dataclass(frozen=True)
class Checkpoint:
    """A folder: what its config says, and its weight file or index of shards, if there is one."""

    folder: Path
    description: CheckpointConfig
    weights: Path | None

    def weights_file(self) -> Path:
        """The weight file or index; ExportError naming what is missing if there is none."""
        return find_weights(self.folder) if self.weights is None else self.weights


def has_config(folder: Path) -> bool:
    """Whether the folder says what model it holds."""
    return any((folder / name).is_file() for name in CONFIG_NAMES)


def find_weights(folder: Path) -> Path:
    """The weight file or index of a folder; ExportError naming what is missing if there is none."""
    for name in WEIGHT_NAMES:
        if (folder / name).is_file():
            return folder / name
    raise ExportError(
        f"{folder} holds none of {', '.join(WEIGHT_NAMES)}; "
        "name the file with --weights or use --random-weights"
    )


def read_folder(folder: Path) -> Checkpoint:
    """Read a folder's config. Raises ArtifactError or ExportError naming the file and the field.

    The library is the one whose weight file is there: PaddleNLP's .pdparams or torch's .bin. Both write
    .safetensors: the names within tell. Without weights, or with both, the config's own mark decides.
    """
    config_file = next((folder / name for name in CONFIG_NAMES if (folder / name).is_file()), None)
    if config_file is None:
        raise ExportError(f"{folder} is no checkpoint folder: it holds no {' or '.join(CONFIG_NAMES)}")
    try:
        values = read_config(config_file)
        mark = library_of_config(values)
        present = [folder / name for name in WEIGHT_NAMES if (folder / name).is_file()]
        if mark == HUGGING_FACE:
            present.sort(key=is_pdparams)
        weights = present[0] if present else None
    except (ArtifactError, ExportError) as error:
        raise type(error)(f"{config_file}: {error}") from None
    values = {**values, **cross_encoder_said(folder)}
    library = (mark or PADDLENLP) if weights is None else library_of_weights(weights)
    try:
        return Checkpoint(folder, parse_config(values, library), weights)
    except (ArtifactError, ExportError) as error:
        raise type(error)(f"{config_file}: {error}") from None


def library_of_weights(path: Path) -> str:
    """The library that wrote a weight file or the shards of an index; AlbertError for no such file."""
    files = weight_files(path)
    if is_pdparams(path):
        return PADDLENLP
    if files[0].suffix not in SUFFIXES:
        raise ExportError(f"{path} is no weight file ({', '.join(SUFFIXES)} or an index of shards)")
    if files[0].suffix in TORCH:
        return HUGGING_FACE
    return PADDLENLP if written_by_paddlenlp(read_tensors(files)) else HUGGING_FACE


def describe_variant(config: AlbertConfig, library: str) -> CheckpointConfig:
    """The description of a published variant whose weights ``library`` wrote."""
    return written_by(CheckpointConfig(config, library, None, default_labels()), library)


def written_by(description: CheckpointConfig, library: str) -> CheckpointConfig:
    """The same model with weights of ``library``: PaddleNLP's models look word 0 up as zeros."""
    padding_idx = 0 if library == PADDLENLP else None
    return replace(description, library=library, config=replace(description.config, padding_idx=padding_idx))


def check_same_model(variant: str, wanted: AlbertConfig, checkpoint: Checkpoint) -> None:
    """Refuse weights whose folder describes another model: equal shapes could hide another activation."""
    # What neither the shapes nor the arithmetic depend on, or what the weights' library decides.
    ignored = {"initializer_range", "pad_token_id", "padding_idx", "add_pooling_layer"}
    found = checkpoint.description.config
    differences = [
        f"{field.name} {getattr(found, field.name)!r} instead of {getattr(wanted, field.name)!r}"
        for field in fields(AlbertConfig)
        if field.name not in ignored and getattr(found, field.name) != getattr(wanted, field.name)
    ]
    if differences:
        raise ExportError(
            f"{checkpoint.folder} is not {variant}: {', '.join(differences)}; "
            "to export that model give the folder as MODEL"
        )
