"""The stage of an export that makes its weight file: from the source's tensors to program and reference.

Import this module only where paddle may be imported, with its flags in the environment.
"""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.artifact.tasks import Head
from albert_runtime.artifact.tensor_table import tensor_shapes

from ..checkpoint.weights import Loaded, source_from_json
from ..equalize import equalized
from ..errors import ExportError
from ..names import PROGRAM_SUFFIXES, WEIGHTS_SUFFIX
from ..paddle_model import program
from ..precision import PRECISIONS, dtypes, rounded, stored_shapes
from ..verify import eager_float32_errors, load_answers, make_batches, save_answers
from .events import Events

# Later releases no longer trace the .pdmodel form.
_PADDLE = "3.1."


def trace(request: dict[str, Any], config: AlbertConfig, head: Head, events: Events) -> dict[str, object]:
    """Weights, eager float32, program, proof of the weight file, eager float64: the reference answers."""
    if not paddle.__version__.startswith(_PADDLE):
        raise ExportError(
            f"paddlepaddle {paddle.__version__} cannot trace this model; "
            f"pip install 'paddlepaddle=={_PADDLE}*'"
        )
    return _Trace(request, config, head, events).run()


class _Trace:
    """The steps, and what several of them need. One model is in memory at a time."""

    def __init__(self, request: dict[str, Any], config: AlbertConfig, head: Head, events: Events) -> None:
        self.request, self.config, self.head, self.events = request, config, head, events
        self.precision = PRECISIONS[request["precision"]]
        self.types = dtypes(config, head, self.precision)
        self.source = source_from_json(request["weights"])
        self.batches = make_batches(config, head)
        self.sha256: dict[str, str] = {}  # of the tensors as they are stored
        folder, stem = Path(request["folder"]), request["stem"]
        self.program_file = folder / f"{stem}{PROGRAM_SUFFIXES[request['format']]}"
        self.weights_file = folder / f"{stem}{WEIGHTS_SUFFIX}"
        self.model: paddle.nn.Layer | None = None

    def run(self) -> dict[str, object]:
        self.fill()
        self.events.start("eager", "eager Paddle in float32")
        names, progress = self.head.outputs(self.config), self.events.progress
        eager32 = program.run_eager(self.model, names, self.batches, progress)
        self.events.done("eager Paddle in float32 answered the verification batches")
        ranges = self.calibrate() if self.precision.quantized else {}
        if self.precision.rounded:
            self.round()
        self.save()

        self.events.start("proof", "comparing the weight file with its source")
        shapes = stored_shapes(self.config, self.head, self.precision)
        tensors = program.check_weight_file(self.weights_file, shapes, self.types, self.sha256)
        size = self.weights_file.stat().st_size
        self.events.done(f"{self.weights_file.name}, every tensor once, byte for byte", size)

        self.events.start("reference", "eager Paddle in float64")
        self.release()
        # What the file holds, or, where that is rounded, what it was rounded from.
        exact = (
            self.source.load(self.config, self.head)[0]
            if self.precision.rounded
            else program.read_tensors(self.weights_file, tensors)
        )
        reference = program.build_model(self.config, self.head, exact, "float64", lambda done, total: None)
        depths: list[dict[str, np.ndarray]] = []
        answers = program.run_eager(reference, names, self.batches, progress, depths)
        save_answers(Path(self.request["reference"]), answers)
        if self.precision.rounded:
            save_answers(Path(self.request["depths"]), depths)
        errors = eager_float32_errors(answers, eager32, self.batches, self.head)
        self.events.done("eager Paddle in float64 answered the verification batches")
        return {
            "tensors": [asdict(tensor) for tensor in tensors],
            "ranges": ranges,
            "origin": self.source.origin(),
            "eager_float32": asdict(errors),
            "paddlepaddle": paddle.__version__,
        }

    def load(self) -> Loaded:
        """The source's tensors, for int8 evened out: the same model, better to round."""
        tensors, left_out = self.source.load(self.config, self.head)
        return equalized(tensors, self.config) if self.precision.quantized else tensors, left_out

    def fill(self) -> None:
        """The model in float32."""
        self.events.start("weights", "filling the model")
        tensors, left_out = self.load()
        self.build(program.hashed(tensors, self.sha256), "float32")
        unused = f"; left out, no part of this model: {', '.join(left_out)}" if left_out else ""
        count = sum(map(math.prod, tensor_shapes(self.config, self.head).values()))
        self.events.done(f"{count:,} parameters in {len(self.sha256)} tensors{unused}", 4 * count)

    def calibrate(self) -> dict[str, list[float]]:
        """The ranges that the layers' matrices meet on the calibration text, while the model is float32."""
        self.events.start("calibrate", "running the calibration text")
        rows = load_answers(Path(self.request["calibration"]))
        ranges = program.run_calibration(self.model, rows, self.events.progress)
        self.events.done(f"ranges of what {len(ranges)} matrices are multiplied with, by depth")
        return ranges

    def round(self) -> None:
        """The model again, in the precision that it is stored in."""
        dtype = self.precision.dtype
        self.events.start("round", f"rounding to {dtype}")
        self.release()
        tensors, _ = self.load()
        values = program.hashed(rounded(tensors, self.types), self.sha256)
        if self.precision.quantized:
            self.build(values, "float32", quantized=True)
            self.events.done(f"rounded to {dtype}, but for vectors and small tables")
        else:
            self.build(values, dtype)
            self.events.done(f"rounded to {dtype}, but for the parameters of LayerNorm")

    def save(self) -> None:
        """Program and weight file."""
        self.events.start("program", "tracing")
        program.save_program(self.model, self.head, self.program_file, self.weights_file)
        self.events.done(self.program_file.name, self.program_file.stat().st_size)

    def build(self, tensors: program.Tensors, dtype: str, *, quantized: bool = False) -> None:
        types = self.types if quantized else None
        self.model = program.build_model(self.config, self.head, tensors, dtype, self.events.progress, types)

    def release(self) -> None:
        self.model = None
        program.release()
