"""The child process of an export: `python -m albert_export.pipeline.worker`, one stage per process.

Paddle's flags must be in the environment before it is imported, and a process that ends gives all its memory
back; so every heavy stage runs here. The parent sends one JSON line on stdin and keeps it open: its end means
that the parent died. Answers are JSON lines on stdout: stage, progress and done events, then one result or
error. Whatever paddle prints goes to stderr.
"""

import json
import os
import resource
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.artifact.tasks import Head
from albert_runtime.errors import AlbertError, UnsupportedError

from ..verify import make_batches, save_answers
from .events import Events

Request = dict[str, Any]

_MAX_MESSAGE = 400


def _model(request: Request) -> tuple[AlbertConfig, Head]:
    return AlbertConfig.from_dict(request["config"]), Head.from_dict(request["head"])


def trace(request: Request, events: Events) -> dict[str, object]:
    """The stage of trace_stage.py."""
    events.start("paddle", "importing paddle")
    from . import trace_stage  # noqa: PLC0415  (the flags in the environment are this stage's)

    return trace_stage.trace(request, *_model(request), events)


def answer(request: Request, events: Events) -> dict[str, object]:
    """The verification batches through one backend of the runtime's Predictor; writes its answers.

    ``outputs``: those asked for, null for all. A backend that cannot do here what the artifact asks answers
    nothing; ``left_out`` says why.
    """
    from albert_runtime import Predictor  # noqa: PLC0415  (its backends import heavy packages)

    batches = make_batches(*_model(request))
    try:
        predictor = Predictor(request["manifest"], backend=request["backend"])
    except UnsupportedError as error:
        return {"left_out": str(error)}
    answers = []
    for done, batch in enumerate(batches, 1):
        answers.append(predictor.run(dict(batch), outputs=request["outputs"]))
        events.progress(done, len(batches))
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
