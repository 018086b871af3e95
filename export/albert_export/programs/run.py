"""Runs a program where its users run it: ONNX's in ONNX Runtime, Paddle's in Paddle Inference."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from albert_runtime.backends.base import one_line

from ..errors import ExportError
from ..names import WEIGHTS_SUFFIX
from .comparison import Batch, TakenProgram, program_feeds
from .program_file import ONNX

_Run = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


def run_program(program: TakenProgram, batches: Sequence[Batch]) -> list[dict[str, np.ndarray]]:
    """What the program answers to batches of ours, by our names.

    Call it in a process of its own, with Paddle's flags set. Raises whatever the libraries raise, where the
    program cannot be run at all; ExportError if it runs, but not on all of them.
    """
    names = {ours: theirs.name for ours, theirs in program.outputs.items()}
    run = (_onnxruntime if program.files[0].suffix == ONNX else _paddle)(program.files[0], names)
    answers, failed = [], []
    for batch in batches:
        try:
            answers.append(run(program_feeds(program, batch)))
        except Exception as error:  # of any type
            failed.append(error)
    if failed and answers:
        # It is sound, and means something else by such a batch than its export does.
        name = program.files[0].name
        raise ExportError(f"{name} fails on a batch that its export answers ({one_line(failed[0])})")
    if failed:
        raise failed[0]
    return answers


def _onnxruntime(path: Path, names: Mapping[str, str]) -> _Run:
    import onnxruntime  # noqa: PLC0415

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])

    def run(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(list(names.values()), dict(feeds)), strict=True))

    return run


def _paddle(path: Path, names: Mapping[str, str]) -> _Run:
    from paddle import inference  # noqa: PLC0415

    config = inference.Config(str(path), str(path.with_suffix(WEIGHTS_SUFFIX)))
    config.disable_glog_info()
    config.disable_gpu()
    config.disable_mkldnn()
    predictor = inference.create_predictor(config)

    def run(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        for name, values in feeds.items():
            predictor.get_input_handle(name).copy_from_cpu(np.ascontiguousarray(values))
        predictor.run()
        return {ours: predictor.get_output_handle(theirs).copy_to_cpu() for ours, theirs in names.items()}

    return run
