"""albert-runtime's own C++ engine."""

import os
from collections.abc import Sequence

from albert_runtime import Predictor

from .base import Answer, Ids, Job


class Engine:
    """One Predictor on the backend ``native``."""

    def __init__(self, job: Job) -> None:
        # With weights packed by an earlier run in the cache, loading would not be measured in full.
        os.environ["ALBERT_PACKED_CACHE"] = "0"
        self._predictor = Predictor(
            job.artifact, backend="native", precision=job.contender.precision, num_threads=job.threads
        )

    def run(self, rows: Sequence[Ids]) -> Answer:
        """See Model.run."""
        return self._predictor.run(rows)


build = Engine
