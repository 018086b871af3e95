"""What the command asks of the pipeline."""

from dataclasses import dataclass
from pathlib import Path

from albert_runtime.config import AlbertConfig

from .weights import WeightSource


@dataclass(frozen=True)
class Request:
    """What to export, from which weights, and where to.

    ``tokenizer`` None: the packaged demo's for random weights, else none. ``format`` is pdmodel or json.
    """

    config: AlbertConfig
    weights: WeightSource
    tokenizer: Path | None
    directory: Path
    stem: str
    format: str = "pdmodel"
    force: bool = False
