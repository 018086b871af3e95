"""Checkpoint folders of PaddleNLP and Hugging Face: their config, their weight files, who wrote them."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.errors import ArtifactError

from ..errors import ExportError
from . import lora
from .config_json import (
    HUGGING_FACE,
    PADDLENLP,
    CheckpointConfig,
    library_of_config,
    parse_config,
    read_config,
)
from .labels import default_labels
from .stored_tensor import shown
from .tensor_names import written_by_paddlenlp
from .weight_files import SUFFIXES, TORCH, WEIGHT_NAMES, is_pdparams, read_tensors, weight_files

CONFIG_NAMES = ("config.json", "model_config.json")


@dataclass(frozen=True)
class Checkpoint:
    """A folder: what its config says, and its weight file or index of shards, if there is one.

    ``adapter`` is a LoRA adapter's file, ``base`` the folder of the model that it was trained on, if that is
    another one.
    """

    folder: Path
    description: CheckpointConfig
    weights: Path | None
    adapter: Path | None = None
    base: Path | None = None

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
    if (folder / lora.CONFIG_NAME).is_file():
        raise ExportError(
            f"{folder} holds an adapter; to merge it give its folder as MODEL, or {lora.REMEDY}"
        )
    if (folder / "lora_config.json").is_file():
        raise ExportError(
            f"{folder} holds a LoRA adapter of PaddleNLP; merge it into its model first (LoRAModel.merge)"
        )
    raise ExportError(
        f"{folder} holds none of {', '.join(WEIGHT_NAMES)}; "
        "name the file with --weights or use --random-weights"
    )


def read_folder(folder: Path) -> Checkpoint:
    """Read a folder's config. Raises ArtifactError or ExportError naming the file and the field.

    The library is the one whose weight file is there: PaddleNLP's .pdparams or torch's .bin. Both write
    .safetensors: the names within tell. Without weights, or with both, the config's own mark decides.
    """
    adapter = next((folder / name for name in lora.ADAPTER_NAMES if (folder / name).is_file()), None)
    if adapter is not None or (folder / lora.CONFIG_NAME).is_file():
        return _read_adapter_folder(folder, adapter)
    return _read_plain(folder)


def _read_adapter_folder(folder: Path, file: Path | None) -> Checkpoint:
    """A LoRA adapter on the model beside it, or in the folder that its config names."""
    config = lora.read_adapter(folder / lora.CONFIG_NAME)
    if file is None:
        raise ExportError(f"{folder} holds none of {', '.join(lora.ADAPTER_NAMES)}; save the adapter again")
    places = [folder] if config.base is None else [folder, folder / config.base, Path(config.base)]
    for place in places:
        if has_config(place) and any((place / name).is_file() for name in WEIGHT_NAMES):
            base = _read_plain(place)
            description = base.description if config.task is None else base.description.for_task(config.task)
            elsewhere = None if place == folder else place
            return Checkpoint(folder, description, base.weights, file, elsewhere)
    named = "" if config.base is None else f" ({shown(config.base)})"
    raise ExportError(
        f"{folder} holds a LoRA adapter and not the model that it was trained on{named}; put that model's "
        f"folder where {lora.CONFIG_NAME} says, or {lora.REMEDY}"
    )


def _read_plain(folder: Path) -> Checkpoint:
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
