"""An artifact of ours as the source of another export: what its manifest adds to its program."""

import argparse
from dataclasses import replace
from pathlib import Path

from albert_runtime.artifact.artifact import Artifact
from albert_runtime.artifact.manifest import SUFFIX, Manifest

from .errors import ExportError, UsageError
from .source import Source
from .tokenizer.build import MadeTokenizer


def find_artifact(path: Path) -> Artifact | None:
    """The artifact whose program or graph ``path`` is, by the manifest beside it; None if it is none's."""
    manifest = path.with_name(f"{path.stem}{SUFFIX}")
    if not manifest.is_file():
        return None
    named = {record.name for record in Manifest.read(manifest).files.values()}
    return Artifact.open(manifest) if path.name in named else None


def with_manifest(source: Source, artifact: Artifact, options: argparse.Namespace) -> Source:
    """The source with what an artifact's manifest says of it: labels, scores, tokenizer, prompts.

    Raises UsageError for options about tokenizers, which an artifact has ready, ExportError for int8.
    """
    manifest = artifact.manifest
    assert manifest is not None
    if manifest.precision == "int8":
        raise ExportError(f"{artifact.stem} is int8; export again from its fp32 artifact or its checkpoint")
    for option, value in (("--lowercase", options.lowercase), ("--keep-accents", options.keep_accents)):
        if value is not None:
            raise UsageError(f"{option} is for checkpoints; {artifact.stem} brings its tokenizer.json")
    notes = source.notes
    if manifest.precision != "fp32":
        notes = (*notes, f"the weights are those of {artifact.stem}, rounded to {manifest.precision}")
    same_task = manifest.task == source.head.task
    head = source.head
    if same_task:
        head = replace(head, multi_label=manifest.head.multi_label, activation=manifest.head.activation)
    tokenizer = None
    if "tokenizer" in artifact.files:
        origin = artifact.files["tokenizer"].name
        tokenizer = MadeTokenizer(artifact.read("tokenizer"), origin, (), manifest.max_length)
    return replace(
        source,
        config=replace(source.config, pad_token_id=manifest.config.pad_token_id),
        head=head,
        labels=manifest.labels if same_task else None,
        tokenizer=tokenizer,
        notes=notes,
        sentence_texts=manifest.sentence_texts if head.sentence is not None else None,
    )
