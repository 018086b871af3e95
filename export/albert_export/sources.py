"""From the command's options to the model that is exported: encoder, task, tensors, tokenizer."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from albert_runtime.artifact import tasks
from albert_runtime.artifact.tasks import Head

from .checkpoint.config_json import (
    LIBRARY_TITLES,
    PADDLENLP,
    TENSORFLOW,
    CheckpointConfig,
)
from .checkpoint.folder import (
    check_same_model,
    describe_variant,
    find_weights,
    has_config,
    has_weights,
    library_of_weights,
    read_folder,
    written_by,
)
from .checkpoint.heads import head_of, labels_of
from .checkpoint.sentence_folder import read_sentence_folder
from .checkpoint.task_of_tensors import other_task, task_of_tensors
from .checkpoint.tensor_names import (
    ENCODER,
    HEADS,
    PRETRAINED,
    ModelTensor,
    arrange,
    by_model_name,
    is_tied,
    turn_old_decoder,
)
from .checkpoint.tensorflow.folder import index_of_prefix
from .checkpoint.weight_files import read_tensors, weight_files
from .checkpoint.weights import CheckpointWeights, RandomWeights
from .errors import ExportError, UsageError
from .names import is_plain_stem, model_name
from .program_source import program_source
from .programs.program_file import find_program, is_program, program_name
from .sentence_source import with_sentence
from .source import Source
from .text_source import with_tokenizer
from .tokenizer.choices import Choices
from .variants import VARIANTS, nearest_variants

# Fetches a published variant; the folder that holds its files.
Download = Callable[[str], Path]


@dataclass(frozen=True)
class _Files:
    """A config, the weight file that goes with it (None: random), and the folders to look for a tokenizer.

    ``adapter`` is the file of a LoRA adapter to merge.
    """

    description: CheckpointConfig
    weights: Path | None
    folders: tuple[Path, ...]
    adapter: Path | None = None

    def weight_files(self) -> tuple[Path, ...]:
        """All files that hold weights."""
        assert self.weights is not None
        files = weight_files(self.weights.absolute())
        return files if self.adapter is None else (*files, self.adapter.absolute())


def resolve(options: argparse.Namespace, download: Download) -> tuple[Source, str]:
    """The model that the command's options name, and a line that says where it comes from.

    Args:
        options: The parsed options of `albert-export`.
        download: Called with a variant's name if its published weights are needed.

    Raises:
        UsageError: The options contradict each other.
        AlbertError: The checkpoint cannot be exported.
    """
    name: str = options.model
    is_variant = name in VARIANTS
    _check_fetched(options)
    program = None if is_variant else _program(options)
    if program is not None:
        return program_source(options, program)
    sentence = None
    if is_variant:
        files = _variant(options, download)
    else:
        folder = _model_folder(name)
        if options.task in (None, tasks.MODEL):
            sentence = read_sentence_folder(folder)
        files = _folder(options, folder if sentence is None else sentence.transformer)
    description, task = files.description, options.task
    if sentence is not None:
        task = tasks.MODEL  # sentence-transformers reads the encoder, whatever class wrote it
    if task is None:
        # A published variant is the encoder, whichever pretraining head its checkpoint carries.
        task = tasks.MODEL if is_variant else _task(files)
    if files.weights is None:
        source, origin = random_source(description, task, options.random_weights), "random weights"
    else:
        task_given = options.task is not None or is_variant or sentence is not None
        source = checkpoint_source(
            description, files.weights, task, task_given=task_given, adapter=files.adapter
        )
        origin = f"{LIBRARY_TITLES[description.library]} weights {files.weights}"
    choices = Choices(
        options.lowercase,
        options.keep_accents,
        description.library != PADDLENLP,
        source.config.vocab_size,
        needs_mask=task == tasks.MASKED_LM,
    )
    source = with_tokenizer(source, files.folders, choices, description.library)
    if sentence is not None:
        source = with_sentence(source, sentence)
    elif options.task is None and not is_variant and files.weights is not None and not description.says_task:
        source = replace(
            source, notes=(f"the config names no task of ours: {task}, by its tensors", *source.notes)
        )
    return replace(source, notes=(*description.notes, *source.notes)), f"{origin}, task {task}"


def _check_fetched(options: argparse.Namespace) -> None:
    """UsageError for an option that is about fetching weights, if none are fetched."""
    fetched = options.model in VARIANTS and options.random_weights is None and options.weights is None
    for option in ("source", "revision"):
        if not fetched and getattr(options, option) is not None:
            raise UsageError(f"--{option} is for a variant that is fetched; leave it out")


def _program(options: argparse.Namespace) -> Path | None:
    """The program that MODEL names, or that its folder holds instead of a checkpoint."""
    path = Path(options.model)
    if not path.is_dir():
        return path if is_program(path) else None
    if options.weights is not None or options.random_weights is not None or has_weights(path):
        return None
    return find_program(path)


def _task(files: _Files) -> str:
    """The task that the config names, or that the tensors show."""
    description = files.description
    # Of TensorFlow's the tensors have been asked already, which may have a head that is none of ours.
    if description.says_task or files.weights is None or description.library == TENSORFLOW:
        return description.task()
    try:
        stored = read_tensors(files.weight_files())
        return task_of_tensors(by_model_name(stored, description.library)[0], description.library)
    except ExportError as error:
        raise ExportError(f"{files.weights}: {error}") from None


def stem(options: argparse.Namespace) -> str:
    """What the names of the artifact's files start with; UsageError if they cannot."""
    name: str = options.model
    if options.name is not None:
        name = options.name
    else:
        name = name if name in VARIANTS else _model_name(options)
        name = name if options.precision == "fp32" else f"{name}-{options.precision}"
    if not is_plain_stem(name):
        raise UsageError(f"{name!r} cannot start a file name; give a plain one with --name")
    return name


def _model_name(options: argparse.Namespace) -> str:
    program = _program(options)
    return model_name(_model_folder(options.model)) if program is None else program_name(program)


def random_source(description: CheckpointConfig, task: str, seed: int) -> Source:
    """The model of ``description`` with seeded weights."""
    tied = task == tasks.MASKED_LM or description.library != PADDLENLP
    labels = description.labels if task in tasks.LABELLED else None
    head, notes = head_of(description, task, labels, tied=tied)
    pooled = head.reads_pooled or (task == tasks.MODEL and description.config.add_pooling_layer)
    config = replace(description.config, add_pooling_layer=pooled)
    return Source(config, head, labels, RandomWeights(seed), notes=notes)


def checkpoint_source(
    description: CheckpointConfig, path: Path, task: str, *, task_given: bool, adapter: Path | None = None
) -> Source:
    """The model of a weight file or index, every tensor accounted for.

    Args:
        description: The model that the file's config describes.
        path: The weight file, or the index of its shards.
        task: The task to export for.
        task_given: The user named the task, so the checkpoint's own head for another task may be left out.
        adapter: The file of a LoRA adapter, which is merged.

    Raises:
        AlbertError: The files are damaged, or hold tensors that do not fit; the message lists them.
    """
    files = _Files(description, path, (), adapter).weight_files()
    stored = read_tensors(files)
    placed, _ = by_model_name(stored, description.library)
    turn_old_decoder(placed, description.config)
    tied = task in (tasks.MASKED_LM, tasks.PRETRAINING) and is_tied(
        placed, description.library, description.tied, masked_lm=task == tasks.MASKED_LM
    )
    labels, notes = labels_of(description, task, placed)
    head, more = head_of(description, task, labels, tied=tied)
    config = replace(description.config, add_pooling_layer=_has_pooler(description, head, placed))
    ignorable: tuple[str, ...] = HEADS if task_given else PRETRAINED
    if task_given and task == tasks.MODEL:
        # Of a class of the user's own: whoever asks for the encoder has no use for its heads.
        ignorable += tuple(name for name in placed if not name.startswith(ENCODER))
    try:
        arrange(stored, description.library, config, head, ignorable)
    except ExportError as error:
        title = LIBRARY_TITLES[description.library]
        hint = "" if task_given else other_task(placed, description.library, task)
        raise ExportError(f"{path}, read as {title}'s weights for task {task}: {error}{hint}") from None
    weights = CheckpointWeights(files, description.library, ignorable)
    return Source(config, head, labels, weights, notes=notes + more)


def _has_pooler(description: CheckpointConfig, head: Head, placed: dict[str, ModelTensor]) -> bool:
    if head.task != tasks.MODEL:
        return head.reads_pooled
    if description.library != PADDLENLP:
        # Neither transformers' configs nor Google's say whether there is one.
        return any(name.startswith("pooler.") for name in placed)
    return description.config.add_pooling_layer


def _model_folder(name: str) -> Path:
    path = Path(name)
    if path.is_dir():
        return path
    if index_of_prefix(path) is not None:
        return path.parent
    if path.exists():
        raise UsageError(
            f"{name} is a file that holds no program; MODEL is a variant name, a folder or a program (.onnx, "
            ".pdmodel, .json); a weight file goes to --weights"
        )
    nearest = nearest_variants(name)
    hint = f"did you mean {', '.join(nearest)}?" if nearest else "see albert-export --list"
    raise UsageError(f"{name!r} is no variant, folder or program; {hint}")


def _folder(options: argparse.Namespace, folder: Path) -> _Files:
    """MODEL is a folder, whose config counts; ``--weights`` replaces its weights."""
    named = None if Path(options.model).is_dir() else index_of_prefix(Path(options.model))
    checkpoint = read_folder(folder, named)
    description = checkpoint.description
    if options.random_weights is not None:
        return _Files(description, None, (folder,))
    if options.weights is None:
        folders = (folder,) if checkpoint.base is None else (folder, checkpoint.base)
        return _Files(description, checkpoint.weights_file(), folders, checkpoint.adapter)
    other: Path = options.weights
    if other.is_dir() and has_config(other):
        replacement = read_folder(other)
        check_same_model(str(folder), description.config, replacement)
    weights, place = _weight_file(other)
    return _Files(written_by(description, library_of_weights(weights)), weights, (folder, place))


def _variant(options: argparse.Namespace, download: Download) -> _Files:
    """MODEL is a variant: random weights, the user's, or the published ones."""
    name: str = options.model
    if options.random_weights is not None:
        return _Files(describe_variant(VARIANTS[name], PADDLENLP), None, ())
    path: Path = options.weights if options.weights is not None else download(name)
    weights, place = _weight_file(path)
    if path.is_dir() and has_config(path):
        checkpoint = read_folder(path)
        check_same_model(name, VARIANTS[name], checkpoint)
        return _Files(checkpoint.description, weights, (place,))
    return _Files(describe_variant(VARIANTS[name], library_of_weights(weights)), weights, (place,))


def _weight_file(path: Path) -> tuple[Path, Path]:
    """The weight file or index that ``path`` is or holds, and its folder."""
    if path.is_dir():
        return find_weights(path), path
    index = index_of_prefix(path)
    if index is not None:
        return index, path.parent
    if not path.is_file():
        raise ExportError(f"--weights {path} does not exist; give a checkpoint folder or a weight file")
    return path, path.parent
