"""OpenVINO: the exported graph in f32 and bf16, and quantized to int8 by its toolkit NNCF."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov

from albert_runtime.artifact import Artifact

from ..batching import Batching
from ..workload import Workload, mixed
from .base import INPUTS, Answer, Ids, Job, padded

_HINTS = {"fp32": "f32", "bf16": "bf16"}
_INT8 = "int8.xml"
_CALIBRATION_ROWS, _CALIBRATION_BUCKET = 64, 4


class CompiledModel:
    """A compiled model; each thread has an inference request of its own."""

    def __init__(self, job: Job) -> None:
        precision = job.contender.precision
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": job.threads}
        if job.streams:
            options |= {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": job.streams}
        # In int8 OpenVINO chooses the precision of what NNCF left in floats: bf16 if the CPU has it.
        if precision in _HINTS:
            options["INFERENCE_PRECISION_HINT"] = _HINTS[precision]
        graph = job.folder / _INT8 if precision == "int8" else Artifact.open(job.artifact).files["onnx"]
        self._model = ov.Core().compile_model(str(graph), "CPU", options)
        self._outputs = [output.get_any_name() for output in self._model.outputs]
        self._of_thread = threading.local()
        # OpenVINO deadlocks if its first use of numpy comes from two threads at once, so it comes here.
        ov.Tensor(np.zeros(1, np.int64))

    def run(self, rows: Sequence[Ids]) -> Answer:
        """See Model.run."""
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._model.create_infer_request()
        feed = dict(zip(INPUTS, padded(rows), strict=True))
        results = self._of_thread.request.infer(feed, share_inputs=True)
        return {name: results[name] for name in self._outputs}


build = CompiledModel


def prepare(job: Job) -> None:
    """Quantize weights and activations, calibrated on seeded rows of mixed lengths."""
    import nncf  # noqa: PLC0415  (slow to import, and only needed here)

    artifact = Artifact.open(job.artifact)
    assert artifact.manifest is not None
    config = artifact.manifest.config
    workload: Workload = mixed(_CALIBRATION_ROWS, config.max_position_embeddings)
    rows = workload.rows(config)
    groups = Batching("", _CALIBRATION_BUCKET).groups(workload.lengths)
    batches = [dict(zip(INPUTS, padded([rows[i] for i in group]), strict=True)) for group in groups]
    model = ov.Core().read_model(str(artifact.files["onnx"]))
    quantized = nncf.quantize(
        model, nncf.Dataset(batches), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(batches)
    )
    ov.save_model(quantized, str(job.folder / _INT8), compress_to_fp16=False)
