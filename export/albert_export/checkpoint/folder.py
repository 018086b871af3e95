"""Local checkpoints, folders of PaddleNLP or Hugging Face or bare weight files, and what to export."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

from albert_runtime.artifact import tasks
from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.artifact.tasks import Head
from albert_runtime.errors import ArtifactError

from ..errors import ExportError
from .config_json import (
    HUGGING_FACE,
    LIBRARY_TITLES,
    PADDLENLP,
    PADDLENLP_DECODER_NORM_EPS,
    Description,
    default_labels,
    library_of_config,
    parse_config,
    read_config,
)
from .tensor_names import (
    HEADS,
    PRETRAINED,
    Placed,
    arrange,
    by_model_name,
    is_tied,
    turn_old_decoder,
    written_by_paddlenlp,
)
from .weight_files import SUFFIXES, WEIGHT_NAMES, is_pdparams, read_stored, weight_files
from .weights import CheckpointWeights, RandomWeights, WeightSource

CONFIG_NAMES = ("config.json", "model_config.json")


@dataclass(frozen=True)
class Checkpoint:
    """A folder: what its config says, and its weight file or index of shards, if there is one."""

    folder: Path
    description: Description
    weights: Path | None

    def weights_file(self) -> Path:
        """The weight file or index; ExportError naming what is missing if there is none."""
        return find_weights(self.folder) if self.weights is None else self.weights


@dataclass(frozen=True)
class Plan:
    """What to export: the model, its head, the labels of its columns, and where the tensors come from."""

    config: AlbertConfig
    head: Head
    labels: tuple[str, ...] | None
    weights: WeightSource


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
    if files[0].suffix == ".bin":
        return HUGGING_FACE
    return PADDLENLP if written_by_paddlenlp(read_stored(files)) else HUGGING_FACE


def describe_variant(config: AlbertConfig, library: str) -> Description:
    """The description of a published variant whose weights ``library`` wrote."""
    return written_by(Description(config, library, None, default_labels()), library)


def written_by(description: Description, library: str) -> Description:
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


def plan_random(description: Description, task: str, seed: int) -> Plan:
    """A model of ``description`` with seeded weights."""
    head = _head(description, task, tied=task == tasks.MASKED_LM or description.library == HUGGING_FACE)
    pooled = head.reads_pooled or (task == tasks.MODEL and description.config.add_pooling_layer)
    config = replace(description.config, add_pooling_layer=pooled)
    return Plan(config, head, _labels(description, task), RandomWeights(seed))


def plan_weights(description: Description, path: Path, task: str, *, chosen: bool) -> Plan:
    """The model of a weight file or index, every tensor accounted for.

    ``chosen``: the user named the task, so that a checkpoint's own head of another kind may be left out.
    Raises AlbertError if the files are damaged, or listing the tensors that do not fit.
    """
    files = weight_files(path.absolute())
    stored = read_stored(files)
    placed, _ = by_model_name(stored, description.library)
    turn_old_decoder(placed, description.config)
    tied = task in (tasks.MASKED_LM, tasks.PRETRAINING) and is_tied(
        placed, description.library, description.tied, masked_lm=task == tasks.MASKED_LM
    )
    head = _head(description, task, tied=tied)
    config = replace(description.config, add_pooling_layer=_has_pooler(description, head, placed))
    spare = HEADS if chosen else PRETRAINED
    try:
        arrange(stored, description.library, config, head, spare)
    except ExportError as error:
        title = LIBRARY_TITLES[description.library]
        raise ExportError(f"{path}, read as {title}'s weights for task {task}: {error}") from None
    weights = CheckpointWeights(files, description.library, spare)
    return Plan(config, head, _labels(description, task), weights)


def _head(description: Description, task: str, *, tied: bool) -> Head:
    eps = PADDLENLP_DECODER_NORM_EPS
    if description.library == HUGGING_FACE:
        eps = description.config.layer_norm_eps
    return Head.of(
        task,
        num_labels=len(description.labels),
        tied_decoder=tied,
        decoder_norm_eps=eps,
        multi_label=description.multi_label,
    )


def _has_pooler(description: Description, head: Head, placed: dict[str, Placed]) -> bool:
    if head.task != tasks.MODEL:
        return head.reads_pooled
    if description.library == HUGGING_FACE:
        # transformers' configs do not say whether there is one.
        return any(name.startswith("pooler.") for name in placed)
    return description.config.add_pooling_layer


def _labels(description: Description, task: str) -> tuple[str, ...] | None:
    return description.labels if task in tasks.LABELLED else None
