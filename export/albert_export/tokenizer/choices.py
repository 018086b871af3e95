"""What the caller of make_tokenizer knows, and what the user chose."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Choices:
    """What a folder's tokenizer files do not say.

    ``lowercase``, ``keep_accents``: the user's choice, None for what the folder says. ``hugging_face``: the
    weights are Hugging Face's, else they are PaddleNLP's. ``vocab_size``: of the model, None if unknown.
    ``needs_mask``: whether the task is to fill a mask.
    """

    lowercase: bool | None = None
    keep_accents: bool | None = None
    hugging_face: bool = False
    vocab_size: int | None = None
    needs_mask: bool = False
