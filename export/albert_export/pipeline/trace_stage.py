"""The stage of an export that makes its weight file: from the source's tensors to program and reference.

Import this module only where paddle may be imported, with its flags in the environment.
"""

import hashlib
import math
from collections.abc import Iterator

import numpy as np
import paddle

from albert_runtime.artifact.tensor_table import TensorRecord, tensor_shapes

from ..equalize import equalized
from ..errors import ExportError
from ..paddle_model import program
from ..precision import PRECISIONS, dtypes, rounded, stored_shapes
from ..verify import eager_float32_errors, load_answers, make_batches, save_answers
from .events import Events
from .messages import TraceJob, TraceResult

# Later releases no longer trace the .pdmodel form.
_PADDLE = "3.1."


def trace(job: TraceJob, events: Events) -> TraceResult:
    """Weights, eager float32, program, proof of the weight file, eager float64: the reference answers."""
    if not paddle.__version__.startswith(_PADDLE):
        raise ExportError(
            f"paddlepaddle {paddle.__version__} cannot trace this model; "
            f"pip install 'paddlepaddle=={_PADDLE}*'"
        )
    return _Trace(job, events).run()


class _Trace:
    """The steps, and what several of them need. One model is in memory at a time."""

    def __init__(self, job: TraceJob, events: Events) -> None:
        self.job, self.config, self.head, self.events = job, job.config, job.head, events
        self.precision = PRECISIONS[job.precision]
        self.dtypes = dtypes(self.config, self.head, self.precision)
        self.batches = make_batches(self.config, self.head)
        self.sha256: dict[str, str] = {}  # of the tensors as they are stored
        # The source's own tensors, kept from float32 to the reference: the checkpoint is read once.
        self.source: dict[str, np.ndarray] = {}
        self.origin: dict[str, object] = {}
        self.model: paddle.nn.Layer | None = None

    def run(self) -> TraceResult:
        self.build_float32()
        self.events.start("eager", "eager Paddle in float32")
        names, progress = self.head.outputs(self.config), self.events.progress
        eager32 = program.run_eager(self.model, names, self.batches, progress)
        self.events.done("eager Paddle in float32 answered the verification batches")
        ranges = self.calibrate() if self.precision.quantized else {}
        if self.precision.rounded:
            self.round()
        self.save()
        tensors = self.check_weight_file()

        self.events.start("reference", "eager Paddle in float64")
        self.release()
        # What the file holds, or, where that is rounded, what it was rounded from.
        exact = (
            ((name, self.source.pop(name)) for name in list(self.source))
            if self.precision.rounded
            else program.read_tensors(self.job.weights_file, tensors)
        )
        reference = program.build_model(self.config, self.head, exact, "float64", lambda done, total: None)
        depths: list[dict[str, np.ndarray]] = []
        answers = program.run_eager(reference, names, self.batches, progress, depths)
        save_answers(self.job.reference, answers)
        if self.precision.rounded:
            save_answers(self.job.depths, depths)
        errors = eager_float32_errors(answers, eager32, self.batches, self.head)
        self.events.done("eager Paddle in float64 answered the verification batches")
        return TraceResult(
            tensors=tuple(tensors),
            ranges={name: tuple(by_use) for name, by_use in ranges.items()},
            origin=self.origin,
            eager_float32=errors,
            paddle_version=paddle.__version__,
        )

    def prepared(self, tensors: program.Tensors) -> program.Tensors:
        """The tensors to store: for int8 equalized, which is the same model but loses less by rounding."""
        return equalized(tensors, self.config) if self.precision.quantized else tensors

    def build_float32(self) -> None:
        """Read the source and build the model in float32."""
        self.events.start("weights", "filling the model")
        digest = hashlib.sha256()
        weights = self.job.weights
        tensors, left_out = weights.load(self.config, self.head, digest)
        self.origin = weights.origin(digest.hexdigest())
        if self.precision.rounded:
            tensors = self.kept(tensors)
        self.build(program.hashed(self.prepared(tensors), self.sha256), "float32")
        unused = f"; left out, no part of this model: {', '.join(left_out)}" if left_out else ""
        count = sum(map(math.prod, tensor_shapes(self.config, self.head).values()))
        self.events.done(f"{count:,} parameters in {len(self.sha256)} tensors{unused}", 4 * count)

    def kept(self, tensors: program.Tensors) -> Iterator[tuple[str, np.ndarray]]:
        """Pass tensors through and keep them for the rounding and the reference."""
        for name, tensor in tensors:
            self.source[name] = tensor
            yield name, tensor

    def calibrate(self) -> dict[str, list[float]]:
        """The input ranges of the layers' matrices on the calibration text, while the model is float32."""
        self.events.start("calibrate", "running the calibration text")
        rows = load_answers(self.job.calibration)
        ranges = program.run_calibration(self.model, rows, self.events.progress)
        self.events.done(f"ranges of what {len(ranges)} matrices are multiplied with, by depth")
        return ranges

    def round(self) -> None:
        """Build the model again, in the precision that it is stored in."""
        dtype = self.precision.dtype
        self.events.start("round", f"rounding to {dtype}")
        self.release()
        values = program.hashed(rounded(self.prepared(self.source.items()), self.dtypes), self.sha256)
        if self.precision.quantized:
            self.build(values, "float32", quantized=True)
            self.events.done(f"rounded to {dtype}, but for vectors and small tables")
        else:
            self.build(values, dtype)
            self.events.done(f"rounded to {dtype}, but for the parameters of LayerNorm")

    def save(self) -> None:
        """Program and weight file."""
        self.events.start("program", "tracing")
        program_file = self.job.program_file
        program.save_program(self.model, self.head, program_file, self.job.weights_file)
        self.events.done(program_file.name, program_file.stat().st_size)

    def check_weight_file(self) -> list[TensorRecord]:
        """Prove that the weight file holds the tensors; where each of them lies."""
        self.events.start("proof", "comparing the weight file with its source")
        path = self.job.weights_file
        shapes = stored_shapes(self.config, self.head, self.precision)
        tensors = program.check_weight_file(path, shapes, self.dtypes, self.sha256)
        self.events.done(f"{path.name}, every tensor once, byte for byte", path.stat().st_size)
        return tensors

    def build(self, tensors: program.Tensors, dtype: str, *, quantized: bool = False) -> None:
        stored = self.dtypes if quantized else None
        self.model = program.build_model(self.config, self.head, tensors, dtype, self.events.progress, stored)

    def release(self) -> None:
        self.model = None
        program.release()
