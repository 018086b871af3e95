"""What the command asks of the pipeline."""

from dataclasses import dataclass
from pathlib import Path

from ..precision import FP32, Precision
from ..source import Source


@dataclass(frozen=True)
class ExportRequest:
    """Which model to export, in which precision and form, and where to.

    ``directory`` and ``stem`` say where the files go and what their names start with. ``calibration`` is the
    user's text for int8; None takes a shipped one. ``format`` is pdmodel or json.
    """

    source: Source
    directory: Path
    stem: str
    precision: Precision = FP32
    calibration: Path | None = None
    format: str = "pdmodel"
    force: bool = False
