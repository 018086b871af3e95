"""Paddle Inference on the exported program: with oneDNN, and plain, as albert-runtime's backend runs it."""

import threading
from collections.abc import Sequence

from paddle import inference

from albert_runtime import Predictor
from albert_runtime.artifact import Artifact

from .base import INPUTS, PLAIN, Answer, Ids, Job, Model, padded


class OneDnn:
    """Paddle's predictor with oneDNN kernels; each thread has a clone, and the clones share the weights."""

    def __init__(self, job: Job) -> None:
        artifact = Artifact.open(job.artifact)
        assert artifact.manifest is not None
        config = inference.Config(str(artifact.files["program"]), str(artifact.files["weights"]))
        config.disable_gpu()
        config.disable_glog_info()
        config.enable_mkldnn()
        config.enable_memory_optim()
        config.set_cpu_math_library_num_threads(1 if job.streams else job.threads)
        self._predictor = inference.create_predictor(config)
        self._outputs = dict(zip(artifact.manifest.outputs, self._predictor.get_output_names(), strict=True))
        self._of_thread = threading.local()
        self._streams = job.streams

    def run(self, rows: Sequence[Ids]) -> Answer:
        """See Model.run."""
        predictor = self._predictor
        if self._streams:
            if not hasattr(self._of_thread, "predictor"):
                self._of_thread.predictor = self._predictor.clone()
            predictor = self._of_thread.predictor
        for name, values in zip(INPUTS, padded(rows), strict=True):
            predictor.get_input_handle(name).copy_from_cpu(values)
        predictor.run()
        return {
            name: predictor.get_output_handle(fetched).copy_to_cpu()
            for name, fetched in self._outputs.items()
        }


class Plain:
    """albert-runtime's backend ``paddle``."""

    def __init__(self, job: Job) -> None:
        self._predictor = Predictor(job.artifact, backend="paddle", num_threads=job.threads)

    def run(self, rows: Sequence[Ids]) -> Answer:
        """See Model.run."""
        return self._predictor.run(rows)


def build(job: Job) -> Model:
    """A predictor with oneDNN, or without it for the variant ``plain``."""
    return Plain(job) if job.contender.variant == PLAIN else OneDnn(job)
