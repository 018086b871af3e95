"""What a model's folders say of texts: the tokenizer, and the id that it pads with."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .checkpoint.config_json import TENSORFLOW
from .checkpoint.tensorflow.folder import lowercase_in_tensorflow
from .errors import UsageError
from .pad_token import tokenizer_pad_id
from .source import Source
from .tokenizer.build import MadeTokenizer, make_tokenizer
from .tokenizer.choices import Choices


def with_tokenizer(source: Source, folders: Sequence[Path], choices: Choices, library: str | None) -> Source:
    """The source with the first tokenizer that the folders hold, if any.

    Its pad id, by which missing masks are guessed, counts; a note tells of another in the config.
    ``library`` wrote the folders, None if that is not known. Raises UsageError if a choice has no tokenizer
    to act on, AlbertError for a tokenizer that cannot be kept.
    """
    tokenizer = _tokenizer(folders, choices, library)
    source = replace(source, tokenizer=tokenizer)
    if tokenizer is None:
        return source
    said, pads = source.config.pad_token_id, tokenizer_pad_id(tokenizer.json, folders)
    if pads is None or pads == said or not 0 <= pads < source.config.vocab_size:
        return source
    note = f"pad_token_id is {said} in the config, {pads} in the tokenizer, which counts: it does the padding"
    config = replace(source.config, pad_token_id=pads)
    return replace(source, config=config, notes=(*source.notes, note))


def _tokenizer(folders: Sequence[Path], choices: Choices, library: str | None) -> MadeTokenizer | None:
    for folder in folders:
        rules = choices
        if choices.lowercase is None and library == TENSORFLOW:
            rules = replace(choices, lowercase=lowercase_in_tensorflow(folder))
        made = make_tokenizer(folder, rules)
        if made is not None:
            return made
    accents = "--keep-accents" if choices.keep_accents else "--strip-accents"
    for option, value in (("--lowercase", choices.lowercase), (accents, choices.keep_accents)):
        if value is not None:
            raise UsageError(f"{option} has no tokenizer to act on: there is no spiece.model or vocab.txt")
    return None
