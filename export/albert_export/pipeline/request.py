"""What the command asks of the pipeline."""

from dataclasses import dataclass
from pathlib import Path

from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.artifact.tasks import Head

from ..checkpoint.weights import WeightSource
from ..precision import FP32, Precision


@dataclass(frozen=True)
class Request:
    """What to export, from which weights, and where to.

    ``config.add_pooling_layer`` is set for the head: a pooler that nothing reads is left out. ``labels``:
    names of the head's columns for the tasks whose labels are the user's own, else None. ``tokenizer_json``
    None: the packaged demo's for random weights, else none. ``calibration``: the user's text for int8, None
    for a shipped one. ``format`` is pdmodel or json.
    """

    config: AlbertConfig
    head: Head
    labels: tuple[str, ...] | None
    weights: WeightSource
    tokenizer_json: bytes | None
    directory: Path
    stem: str
    precision: Precision = FP32
    calibration: Path | None = None
    format: str = "pdmodel"
    force: bool = False
