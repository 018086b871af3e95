"""Checkpoint folders of PaddleNLP, Hugging Face and TensorFlow: config, weight files, who wrote them."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.errors import ArtifactError

from ..errors import ExportError
from . import lora
from .config_json import (
    HUGGING_FACE,
    PADDLENLP,
    TENSORFLOW,
    CheckpointConfig,
    library_of_config,
    parse_config,
    read_config,
)
from .labels import default_labels
from .sentence_folder import cross_encoder_said
from .stored_tensor import shown
from .tensor_names import written_by_paddlenlp
from .tensorflow.bundle import INDEX
from .tensorflow.folder import config_file as tensorflow_config
from .tensorflow.folder import describe as describe_tensorflow
from .tensorflow.folder import find_index
from .weight_files import (
    SUFFIXES,
    TORCH,
    WEIGHT_NAMES,
    is_pdparams,
    is_tensorflow,
    read_tensors,
    weight_files,
)

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
    return _config_file(folder) is not None or tensorflow_config(folder) is not None


def _config_file(folder: Path) -> Path | None:
    """The config that PaddleNLP and transformers read."""
    return next((folder / name for name in CONFIG_NAMES if (folder / name).is_file()), None)


def _present(folder: Path) -> list[Path]:
    """The weight files of PaddleNLP and transformers."""
    return [folder / name for name in WEIGHT_NAMES if (folder / name).is_file()]


def has_weights(folder: Path) -> bool:
    """Whether a folder holds weights or an adapter, or sentence-transformers' oldest layout does."""
    adapters = (folder / name for name in (lora.CONFIG_NAME, *lora.ADAPTER_NAMES))
    below = folder / "0_Transformer"
    return bool(
        _present(folder)
        or any(path.is_file() for path in adapters)
        or any(folder.glob(f"*{INDEX}"))
        or _present(below)
    )


def find_weights(folder: Path) -> Path:
    """The weight file or index of a folder; ExportError naming what is missing if there is none."""
    weights = next(iter(_present(folder)), None) or find_index(folder)
    if weights is not None:
        return weights
    if (folder / lora.CONFIG_NAME).is_file():
        raise ExportError(
            f"{folder} holds an adapter; to merge it give its folder as MODEL, or {lora.REMEDY}"
        )
    if (folder / "lora_config.json").is_file():
        raise ExportError(
            f"{folder} holds a LoRA adapter of PaddleNLP; merge it into its model first (LoRAModel.merge)"
        )
    raise ExportError(
        f"{folder} holds none of {', '.join(WEIGHT_NAMES)} or NAME{INDEX} with NAME.data-*; "
        "name the file with --weights or use --random-weights"
    )


def read_folder(folder: Path, index: Path | None = None) -> Checkpoint:
    """Read a folder's config. Raises ArtifactError or ExportError naming the file and the field.

    ``index``: the TensorFlow checkpoint in it that the user named.

    The library is the one whose weight file is there: PaddleNLP's .pdparams or torch's .bin. Both write
    .safetensors: the names within tell. Without weights, or with both, the config's own mark decides.
    A TensorFlow checkpoint counts where it was named or where one of theirs, config or weights, is not there.
    """
    adapter = next((folder / name for name in lora.ADAPTER_NAMES if (folder / name).is_file()), None)
    if index is None and (adapter is not None or (folder / lora.CONFIG_NAME).is_file()):
        return _read_adapter_folder(folder, adapter)
    return _read_plain(folder, index)


def _read_adapter_folder(folder: Path, file: Path | None) -> Checkpoint:
    """A LoRA adapter on the model beside it, or in the folder that its config names."""
    config = lora.read_adapter(folder / lora.CONFIG_NAME)
    if file is None:
        raise ExportError(f"{folder} holds none of {', '.join(lora.ADAPTER_NAMES)}; save the adapter again")
    places = [folder] if config.base is None else [folder, folder / config.base, Path(config.base)]
    for place in places:
        if _config_file(place) is not None and _present(place):
            base = _read_plain(place)
            description = base.description if config.task is None else base.description.for_task(config.task)
            elsewhere = None if place == folder else place
            return Checkpoint(folder, description, base.weights, file, elsewhere)
    named = "" if config.base is None else f" ({shown(config.base)})"
    raise ExportError(
        f"{folder} holds a LoRA adapter and not the model that it was trained on{named}; put that model's "
        f"folder where {lora.CONFIG_NAME} says, or {lora.REMEDY}"
    )


def _read_plain(folder: Path, index: Path | None = None) -> Checkpoint:
    config_file, present = _config_file(folder), _present(folder)
    if index is None and not (config_file is not None and present):
        index = find_index(folder)
    if index is not None or (config_file is None and tensorflow_config(folder) is not None):
        return _read_tensorflow(folder, index, config_file)
    if config_file is None:
        names = " or ".join((*CONFIG_NAMES, "albert_config.json"))
        raise ExportError(f"{folder} is no checkpoint folder: it holds no {names}")
    try:
        values = read_config(config_file)
        mark = library_of_config(values)
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


def _read_tensorflow(folder: Path, index: Path | None, other_config: Path | None) -> Checkpoint:
    """A folder with a TensorFlow checkpoint. ``other_config``: transformers' config, if there is one."""
    own = tensorflow_config(folder)
    config_file = own or other_config
    if config_file is None:
        raise ExportError(f"{folder} holds {index.name if index else INDEX}, but no albert_config.json")
    stored = {} if index is None else read_tensors(weight_files(index))
    try:
        return Checkpoint(
            folder, describe_tensorflow(read_config(config_file), stored, googles=bool(own)), index
        )
    except (ArtifactError, ExportError) as error:
        raise type(error)(f"{config_file}: {error}") from None


def library_of_weights(path: Path) -> str:
    """The library that wrote a weight file or the shards of an index; AlbertError for no such file."""
    files = weight_files(path)
    if is_pdparams(path):
        return PADDLENLP
    if is_tensorflow(path):
        return TENSORFLOW
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
