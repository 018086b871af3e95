"""From the command's options to what is exported: model, task, tensors, tokenizer."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from albert_runtime.artifact import tasks

from .checkpoint.config_json import LIBRARY_TITLES, PADDLENLP, Description
from .checkpoint.folder import (
    Plan,
    check_same_model,
    describe_variant,
    find_weights,
    has_config,
    library_of_weights,
    plan_random,
    plan_weights,
    read_folder,
    written_by,
)
from .errors import ExportError, UsageError
from .pipeline.publish import is_plain_stem
from .tokenizer.build import tokenizer_json
from .variants import VARIANTS, nearest_variants

# Fetches a published variant; the folder that holds its files.
Download = Callable[[str], Path]


@dataclass(frozen=True)
class Choice:
    """What to export under which name; ``note`` says where it comes from."""

    stem: str
    plan: Plan
    tokenizer_json: bytes | None
    note: str


@dataclass(frozen=True)
class _Source:
    """A description, the weights that go with it (None: random), and where a tokenizer may lie."""

    description: Description
    weights: Path | None
    folders: tuple[Path, ...]


def choose(options: argparse.Namespace, download: Download) -> Choice:
    """Options to a choice; UsageError for what cannot be understood, AlbertError for what cannot be done."""
    name: str = options.model
    folder = None if name in VARIANTS else _model_folder(name)
    given = name if folder is None else folder.resolve().name
    stem = options.name if options.name is not None else stem_of(given, options.precision)
    if not is_plain_stem(stem):
        raise UsageError(f"{stem!r} cannot start a file name; give a plain one with --name")
    named_weights = options.random_weights is not None or options.weights is not None
    if folder is not None or named_weights:
        for option in ("source", "revision"):
            if getattr(options, option) is not None:
                raise UsageError(f"--{option} is for a variant that is fetched; leave it out")
    source = _variant(options, download) if folder is None else _folder(options, folder)
    description, task, chosen = source.description, options.task, options.task is not None
    if task is None:
        # A published variant is the encoder, whichever pretraining head its checkpoint carries.
        task = tasks.MODEL if folder is None else description.task()
    if source.weights is None:
        plan, origin = plan_random(description, task, options.random_weights), "random weights"
    else:
        plan = plan_weights(description, source.weights, task, chosen=chosen or folder is None)
        origin = f"{LIBRARY_TITLES[description.library]} weights {source.weights}"
    tokenizer = _tokenizer(source, options.lowercase, plan.config.vocab_size)
    return Choice(stem, plan, tokenizer, f"{origin}, task {task}")


def stem_of(name: str, precision: str) -> str:
    """What the files of a model exported without a name are called."""
    return name if precision == "fp32" else f"{name}-{precision}"


def _model_folder(name: str) -> Path:
    path = Path(name)
    if path.is_dir():
        return path
    if path.exists():
        raise UsageError(
            f"{name} is a file; MODEL is a variant name or a folder (a weight file goes to --weights)"
        )
    nearest = nearest_variants(name)
    hint = f"did you mean {', '.join(nearest)}?" if nearest else "see albert-export --list"
    raise UsageError(f"{name!r} is no variant and no folder; {hint}")


def _folder(options: argparse.Namespace, folder: Path) -> _Source:
    """MODEL is a folder, whose config counts; ``--weights`` replaces its weights."""
    checkpoint = read_folder(folder)
    description = checkpoint.description
    if options.random_weights is not None:
        return _Source(description, None, (folder,))
    if options.weights is None:
        return _Source(description, checkpoint.weights_file(), (folder,))
    other: Path = options.weights
    if other.is_dir() and has_config(other):
        replacement = read_folder(other)
        check_same_model(str(folder), description.config, replacement)
    weights, place = _weight_file(other)
    return _Source(written_by(description, library_of_weights(weights)), weights, (folder, place))


def _variant(options: argparse.Namespace, download: Download) -> _Source:
    """MODEL is a variant: random weights, the user's, or the published ones."""
    name: str = options.model
    if options.random_weights is not None:
        return _Source(describe_variant(VARIANTS[name], PADDLENLP), None, ())
    path: Path = options.weights if options.weights is not None else download(name)
    weights, place = _weight_file(path)
    if path.is_dir() and has_config(path):
        checkpoint = read_folder(path)
        check_same_model(name, VARIANTS[name], checkpoint)
        return _Source(checkpoint.description, weights, (place,))
    return _Source(describe_variant(VARIANTS[name], library_of_weights(weights)), weights, (place,))


def _weight_file(path: Path) -> tuple[Path, Path]:
    """The weight file or index that ``path`` is or holds, and its folder."""
    if path.is_dir():
        return find_weights(path), path
    if not path.is_file():
        raise ExportError(f"--weights {path} does not exist; give a checkpoint folder or a weight file")
    return path, path.parent


def _tokenizer(source: _Source, lowercase: bool | None, vocab_size: int) -> bytes | None:
    """The first tokenizer that the folders hold, as tokenizer.json."""
    for folder in source.folders:
        data = tokenizer_json(folder, lowercase=lowercase, vocab_size=vocab_size)
        if data is not None:
            return data
    if lowercase is not None:
        raise UsageError("--lowercase has no tokenizer to act on: there is no spiece.model or vocab.txt")
    return None
