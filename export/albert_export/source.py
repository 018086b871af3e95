"""What an export is made of."""

from dataclasses import dataclass

from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.artifact.sentence import SentenceTexts
from albert_runtime.artifact.tasks import Head

from .programs.comparison import TakenProgram
from .tokenizer.build import MadeTokenizer
from .weight_source import WeightSource


@dataclass(frozen=True)
class Source:
    """A model to export: encoder, task, tensors and tokenizer.

    ``config.add_pooling_layer`` is set for the head: a pooler that no output reads is left out. ``labels``
    are set for the tasks whose labels are the user's own. Without a ``tokenizer`` random weights get the
    packaged demo tokenizer, a checkpoint gets none. ``notes`` are lines for the user: what the export took
    for granted, or left out. ``sentence_texts``: for a head with ``sentence``. ``program``: the one that the
    model was taken out of, with which the export is compared.
    """

    config: AlbertConfig
    head: Head
    labels: tuple[str, ...] | None
    weights: WeightSource
    tokenizer: MadeTokenizer | None = None
    notes: tuple[str, ...] = ()
    sentence_texts: SentenceTexts | None = None
    program: TakenProgram | None = None
