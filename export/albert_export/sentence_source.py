"""What a sentence-transformers folder adds to the model that is exported: head, tensors, text rules."""

from dataclasses import replace
from typing import TYPE_CHECKING

from albert_runtime.artifact.sentence import DENSE, SentenceHead
from albert_runtime.errors import ArtifactError

from .checkpoint.sentence_folder import SentenceFolder
from .checkpoint.stored_tensor import shown
from .checkpoint.weights import RandomWeights
from .errors import ExportError
from .tokenizer.lowercase import lowercased
from .weight_source import SentenceWeights

if TYPE_CHECKING:
    from .source import Source


def with_sentence(source: "Source", folder: SentenceFolder) -> "Source":
    """The source with what the folder adds, and a note that says what that is.

    Raises ExportError if the modules do not fit together.
    """
    try:
        width = folder.head.width(source.config.hidden_size)
    except ArtifactError as error:
        raise ExportError(f"{folder.transformer}: its modules do not fit together: {error}") from None
    weights, tokenizer = source.weights, source.tokenizer
    if not isinstance(weights, RandomWeights | SentenceWeights):
        weights = SentenceWeights(weights, folder.files)
    if tokenizer is not None and folder.lowercase:
        tokenizer = replace(tokenizer, json=lowercased(tokenizer.json))
    if tokenizer is not None and folder.max_seq_length is not None:
        tokenizer = replace(tokenizer, max_length=folder.max_seq_length)
    limit = source.config.max_position_embeddings
    if tokenizer is not None and tokenizer.max_length is not None:
        limit = min(limit, tokenizer.max_length)
    note = (
        f"sentence-transformers: {_described(folder.head)}, {width} numbers; texts are cut at {limit} tokens"
    )
    if folder.texts.default_prompt_name is not None:
        note += f", default prompt {shown(folder.texts.default_prompt_name)}"
    return replace(
        source,
        head=replace(source.head, sentence=folder.head),
        weights=weights,
        tokenizer=tokenizer,
        notes=(*source.notes, note),
        sentence_texts=folder.texts,
    )


def _described(head: SentenceHead) -> str:
    steps = [f"Dense {step.activation}" if step.kind == DENSE else "Normalize" for step in head.steps]
    return ", ".join(["+".join(head.pooling), *steps])
