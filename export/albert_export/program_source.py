"""A model out of a program that was exported elsewhere, and what the files beside that program add."""

import argparse
from dataclasses import replace
from pathlib import Path

from albert_runtime.artifact import tasks
from albert_runtime.artifact.sentence import SentenceTexts
from albert_runtime.errors import AlbertError

from .artifact_source import find_artifact, with_manifest
from .checkpoint.config_json import HUGGING_FACE, PADDLENLP, library_of_config, read_config
from .checkpoint.folder import CONFIG_NAMES
from .checkpoint.labels import MULTI_LABEL, column_names, default_labels, fit_labels, stated_activation
from .checkpoint.sentence_folder import cross_encoder_said, read_sentence_folder
from .checkpoint.stored_tensor import shown
from .errors import UsageError
from .programs.albert import Albert, ProgramOutput, take_albert
from .programs.comparison import taken_program
from .programs.program_file import ONNX, model_folder, program_file, read_program
from .programs.weights import ProgramWeights
from .sentence_source import with_sentence
from .source import Source
from .text_source import with_tokenizer
from .tokenizer.choices import Choices


def program_source(options: argparse.Namespace, path: Path) -> tuple[Source, str]:
    """The model of a program, and a line that says where it comes from.

    Args:
        options: The parsed options of `albert-export`.
        path: The program's file, or that of its weights.

    Raises:
        UsageError: An option does not go with a program.
        AlbertError: The program is damaged, or no ALBERT; the message names the first node that does not fit.
    """
    for option, value in (("--weights", options.weights), ("--random-weights", options.random_weights)):
        if value is not None:
            raise UsageError(f"{option} does not go with a program, which brings its weights")
    path = program_file(path).absolute()
    artifact = find_artifact(path)
    folder = model_folder(path)
    sentence = None
    if artifact is None and options.task in (None, tasks.MODEL):
        sentence = read_sentence_folder(folder)
    try:
        graph = read_program(path)
        albert = take_albert(graph, options.task if sentence is None else tasks.MODEL)
    except AlbertError as error:
        raise type(error)(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    if sentence is not None:
        albert = _with_embedding(albert)
    source = Source(
        albert.config,
        albert.head,
        None,
        ProgramWeights(tuple(file.absolute() for file in graph.files), albert.head.task),
        notes=(*albert.notes, *_left_out(albert)),
        sentence_texts=None if albert.head.sentence is None else SentenceTexts({}),
        program=taken_program(graph, albert),
    )
    origin = f"program {path}, task {albert.head.task}"
    if artifact is not None:
        return with_manifest(source, artifact, options), origin
    said, library = _said(folder, HUGGING_FACE if path.suffix == ONNX else PADDLENLP)
    source = _with_config(source, said, knows_padding=albert.pad_id is not None)
    choices = Choices(
        options.lowercase,
        options.keep_accents,
        library != PADDLENLP,
        source.config.vocab_size,
        needs_mask=source.head.task == tasks.MASKED_LM,
    )
    folders = (folder,) if folder == path.parent else (path.parent, folder)
    source = with_tokenizer(source, folders, choices, library)
    return source if sentence is None else with_sentence(source, sentence), origin


def _left_out(albert: Albert) -> list[str]:
    return [f"the program's output {shown(name)} is left out: {why}" for name, why in albert.left_out.items()]


def _with_embedding(albert: Albert) -> Albert:
    """The output that sentence-transformers adds is no longer unknown: the folder says how it is made."""
    name = tasks.SENTENCE_EMBEDDING
    if name not in albert.left_out:
        return albert
    left_out = {other: why for other, why in albert.left_out.items() if other != name}
    return replace(albert, outputs={**albert.outputs, name: ProgramOutput(name)}, left_out=left_out)


def _said(folder: Path, library: str) -> tuple[dict[str, object], str]:
    """What the config beside a program says, without nulls, and who wrote it: ``library`` without a mark."""
    for name in CONFIG_NAMES:
        if (folder / name).is_file():
            try:
                values = read_config(folder / name)
            except AlbertError as error:
                raise type(error)(f"{folder / name}: {error}") from None
            said = {key: value for key, value in values.items() if value is not None}
            return {**said, **cross_encoder_said(folder)}, library_of_config(said) or library
    return {}, library


def _with_config(source: Source, said: dict[str, object], *, knows_padding: bool) -> Source:
    """The source with what a config says of its padding, its labels and their scores, and notes.

    ``knows_padding``: the program itself masks a word.
    """
    config, head, pad = source.config, source.head, said.get("pad_token_id")
    if config.padding_idx is None and not knows_padding and type(pad) is int and 0 <= pad < config.vocab_size:
        source = replace(source, config=replace(config, pad_token_id=pad))
    if head.task not in tasks.LABELLED:
        return source
    names = column_names(said) or default_labels(head.num_labels)
    labels = fit_labels(names, head.num_labels)
    notes = []
    if len(names) != head.num_labels:
        listed = shown(", ".join(labels), 120)
        notes.append(f"the config has {len(names)} labels, the program {head.num_labels} columns: {listed}")
    if head.task == tasks.SEQUENCE_CLASSIFICATION:
        head = replace(head, multi_label=said.get("problem_type") == MULTI_LABEL)
    if head.task == tasks.SEQUENCE_CLASSIFICATION and head.activation is None:
        activation, note = stated_activation(said, head.num_labels)
        head = replace(head, activation=activation)
        notes += [note] if note is not None else []
    return replace(source, head=head, labels=labels, notes=(*source.notes, *notes))
