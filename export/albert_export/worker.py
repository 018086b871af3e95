"""The child process of an export: `python -m albert_export.worker`, one stage per process.

Paddle's flags must be in the environment before it is imported, and a process that ends gives all its memory
back; so every heavy stage runs here. The parent sends one JSON line on stdin and keeps it open: its end means
that the parent died. Answers are JSON lines on stdout: stage, progress and done events, then one result or
error. Whatever paddle prints goes to stderr.
"""

import json
import math
import os
import resource
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from albert_runtime.config import AlbertConfig
from albert_runtime.errors import AlbertError
from albert_runtime.manifest import tensor_shapes
from albert_runtime.tasks import Head

from .errors import ExportError
from .names import PROGRAM_SUFFIXES, WEIGHTS_SUFFIX
from .precision import PRECISIONS, dtypes, narrowed
from .verify import ENCODER, OUTPUTS, eager_float32_errors, make_batches, save_answers
from .weights import source_from_json

Request = dict[str, Any]

_MAX_MESSAGE = 400
# Later releases no longer trace the .pdmodel form.
_PADDLE = "3.1."


class Events:
    """The stream of JSON lines to the parent."""

    def __init__(self) -> None:
        # fd 1 becomes stderr, so that no print of a library can break the protocol.
        self._stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def send(self, event: str, **values: object) -> None:
        """One event, flushed."""
        self._stream.write(json.dumps({"event": event, **values}) + "\n")
        self._stream.flush()

    def done(self, detail: str, size: int | None = None) -> None:
        """End of the current stage: what came of it, and its bytes."""
        self.send("done", detail=detail, bytes=size)

    def progress(self, done: int, total: int) -> None:
        """Progress of the current stage."""
        self.send("progress", done=done, total=total)


def _model(request: Request) -> tuple[AlbertConfig, Head]:
    return AlbertConfig.from_dict(request["config"]), Head.from_dict(request["head"])


def trace(request: Request, events: Events) -> dict[str, object]:
    """Weights, eager float32, program, proof of the weight file, eager float64: the reference answers."""
    events.send("stage", name="paddle", text="importing paddle")
    import paddle  # noqa: PLC0415  (the flags in the environment are this stage's)

    if not paddle.__version__.startswith(_PADDLE):
        raise ExportError(
            f"paddlepaddle {paddle.__version__} cannot trace this model; "
            f"pip install 'paddlepaddle=={_PADDLE}*'"
        )
    from . import program  # noqa: PLC0415

    config, head = _model(request)
    precision = PRECISIONS[request["precision"]]
    shapes, types = tensor_shapes(config, head), dtypes(config, head, precision)
    folder, stem = Path(request["folder"]), request["stem"]
    source = source_from_json(request["weights"])
    batches = make_batches(config, head)

    events.send("stage", name="weights", text="filling the model")
    sha256: dict[str, str] = {}
    tensors, left_out = source.load(config, head)
    model = program.build_model(config, head, program.hashed(tensors, sha256), "float32", events.progress)
    unused = f"; left out, no part of this model: {', '.join(left_out)}" if left_out else ""
    count = sum(map(math.prod, shapes.values()))
    events.done(f"{count:,} parameters in {len(sha256)} tensors{unused}", 4 * count)

    events.send("stage", name="eager", text="eager Paddle in float32")
    eager32 = program.run_eager(model, head.outputs(config), batches)
    events.done("eager Paddle in float32 answered the verification batches")

    if precision.narrow:
        events.send("stage", name="narrow", text=f"rounding to {precision.dtype}")
        del model
        program.release()
        rounded = program.hashed(narrowed(source.load(config, head)[0], types), sha256)
        model = program.build_model(config, head, rounded, precision.dtype, events.progress)
        events.done(f"rounded to {precision.dtype}, but for the parameters of LayerNorm")

    events.send("stage", name="program", text="tracing")
    suffix = PROGRAM_SUFFIXES[request["format"]]
    program_file, weights_file = folder / f"{stem}{suffix}", folder / f"{stem}{WEIGHTS_SUFFIX}"
    program.save_program(model, head, program_file, weights_file)
    events.done(program_file.name, program_file.stat().st_size)

    events.send("stage", name="proof", text="comparing the weight file with its source")
    ranges = program.check_weight_file(weights_file, shapes, types, sha256)
    events.done(f"{weights_file.name}, every tensor once, byte for byte", weights_file.stat().st_size)

    events.send("stage", name="reference", text="eager Paddle in float64")
    del model
    program.release()
    # What the file holds, or, where that is rounded, what it was rounded from.
    values = source.load(config, head)[0] if precision.narrow else program.read_tensors(weights_file, ranges)
    reference = program.build_model(config, head, values, "float64", lambda done, total: None)
    answers = program.run_eager(reference, head.outputs(config), batches)
    save_answers(Path(request["reference"]), answers)
    if request["depths"]:
        rows = make_batches(config, ENCODER)
        save_answers(Path(request["depths"]), program.run_depths(reference, rows))
    eager_errors = eager_float32_errors(answers, eager32, batches, head)
    events.done("eager Paddle in float64 answered the verification batches")
    return {
        "tensors": [asdict(tensor) for tensor in ranges],
        "origin": source.origin(),
        "eager_float32": asdict(eager_errors),
        "paddlepaddle": paddle.__version__,
    }


def answer(request: Request, events: Events) -> dict[str, object]:
    """The verification batches through one backend of the runtime's Predictor; writes its answers.

    ``manifests``: one for the outputs, or one for each depth.
    """
    from albert_runtime import Predictor  # noqa: PLC0415  (its backends import heavy packages)

    config, head = _model(request)
    batches, rows = make_batches(config, head), make_batches(config, ENCODER)
    answers: list[dict[str, np.ndarray]] = [{} for _ in batches]
    for name, manifest in request["manifests"].items():
        predictor = Predictor(manifest, backend=request["backend"])
        for batch, outputs in zip(batches if name == OUTPUTS else rows, answers, strict=True):
            found = predictor.run(dict(batch))
            outputs.update(found if name == OUTPUTS else {name: found["last_hidden_state"]})
    save_answers(Path(request["answers"]), answers)
    return {}


STAGES: dict[str, Callable[[Request, Events], dict[str, object]]] = {"trace": trace, "answer": answer}


def peak_bytes() -> int:
    """Most memory this process has had resident."""
    try:
        # ru_maxrss is inherited across exec: it would count the parent's memory.
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _read_line(descriptor: int) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(descriptor, 1)
        if not byte:
            break
        line += byte
    return bytes(line)


def _end_with_parent() -> None:
    # Not through sys.stdin: its lock, held by this thread, would abort the interpreter's shutdown.
    while os.read(0, 4096):
        pass
    os._exit(1)


def main() -> int:
    """Read the request, run its stage, report; 1 after an error that was reported."""
    events = Events()
    request: Request = json.loads(_read_line(0))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        result = STAGES[request["stage"]](request, events)
    except AlbertError as error:
        events.send("error", message=str(error))
    except OSError as error:
        events.send("error", message=str(error), errno=error.errno, file=str(error.filename or ""))
    except MemoryError:
        events.send("error", message="out of memory; free some and try again")
    except Exception as error:  # the user gets a line whatever happens; the traceback is for the log
        traceback.print_exc()
        text = " ".join(str(error).split())[:_MAX_MESSAGE]
        events.send("error", message=f"internal: {type(error).__name__}: {text}")
    else:
        events.send("result", value=result, peak_bytes=peak_bytes())
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
