"""The child process of an export: `python -m albert_export.pipeline.worker`, one stage per process.

Paddle's flags must be in the environment before it is imported, and a process that ends gives all its memory
back; so every heavy stage runs here. The parent sends one job on stdin (messages.py) and keeps it open: its
end means that the parent died. On stdout go events, then one Finished or Failed. Whatever paddle prints goes
to stderr.
"""

import os
import resource
import sys
import threading
import traceback
from pathlib import Path

from albert_runtime.artifact.proof import Proof
from albert_runtime.errors import AlbertError, UnsupportedError

from ..verify import load_answers, make_batches, save_answers
from .events import Events
from .messages import (
    AnswerJob,
    AnswerResult,
    Failed,
    Finished,
    ProgramJob,
    ProofJob,
    ProtocolError,
    Result,
    TraceJob,
    TraceResult,
    from_line,
)

_MAX_MESSAGE = 400


def trace(job: TraceJob, events: Events) -> TraceResult:
    """Run trace_stage.py."""
    events.start("paddle", "importing paddle")
    from . import trace_stage  # noqa: PLC0415  (the flags in the environment are this stage's)

    return trace_stage.trace(job, events)


def answer(job: AnswerJob, events: Events) -> AnswerResult:
    """Run the verification batches through one backend of the runtime's Predictor and save its answers."""
    from albert_runtime import Predictor  # noqa: PLC0415  (its backends import heavy packages)

    batches = make_batches(job.config, job.head) if job.batches is None else load_answers(job.batches)
    try:
        predictor = Predictor(job.manifest, backend=job.backend)
    except UnsupportedError as error:
        return AnswerResult(unsupported=str(error))
    outputs = None if job.outputs is None else list(job.outputs)
    answers = []
    for done, batch in enumerate(batches, 1):
        answers.append(predictor.run(dict(batch), outputs=outputs))
        events.progress(done, len(batches))
    save_answers(job.answers, answers)
    return AnswerResult(unsupported=None)


def answer_of_program(job: ProgramJob, events: Events) -> AnswerResult:
    """Run batches through a program that was exported elsewhere."""
    from ..programs.run import run_program  # noqa: PLC0415

    try:
        save_answers(job.answers, run_program(job.program, load_answers(job.batches)))
    except AlbertError:
        raise
    except Exception as error:  # whatever the libraries raise: they refuse it, or fail on it
        return AnswerResult(unsupported=" ".join(str(error).split())[:_MAX_MESSAGE] or type(error).__name__)
    return AnswerResult(unsupported=None)


def prove(job: ProofJob, events: Events) -> Proof:
    """Let the engine answer the rows of a proof in every precision."""
    from ..proof import make_proof  # noqa: PLC0415

    # Packed for this once: most users run one precision.
    os.environ["ALBERT_PACKED_CACHE"] = "0"
    return make_proof(job.manifest, events.progress)


def _run(line: bytes, events: Events) -> Result:
    match from_line(line):
        case TraceJob() as job:
            return trace(job, events)
        case AnswerJob() as job:
            return answer(job, events)
        case ProgramJob() as job:
            return answer_of_program(job, events)
        case ProofJob() as job:
            return prove(job, events)
        case other:
            raise ProtocolError(f"{type(other).__name__} is no job")


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
    """Read the job, run it, report; 1 after a failure that was reported."""
    events = Events()
    line = _read_line(0)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        result = _run(line, events)
    except AlbertError as error:
        events.send(Failed(str(error)))
    except OSError as error:
        file = None if error.filename is None else str(error.filename)
        events.send(Failed(str(error), error.errno, file))
    except MemoryError:
        events.send(Failed("out of memory; free some and try again"))
    except Exception as error:  # the user gets a line whatever happens; the traceback is for the log
        traceback.print_exc()
        text = " ".join(str(error).split())[:_MAX_MESSAGE]
        events.send(Failed(f"internal: {type(error).__name__}: {text}"))
    else:
        events.send(Finished(result, peak_bytes()))
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
