"""Which files do contenders need, and who makes them? Quantized and fused graphs, made once, on first use."""

from dataclasses import dataclass, field
from pathlib import Path

from .peers.base import PEERS, Contender, Job
from .process import Process, ProcessFailed


@dataclass
class Preparer:
    """Prepares the contenders of one artifact; each has a folder of its own, which also holds its log.

    Attributes:
        artifact: Path of the exported model.
        folder: Where the contenders' folders go.
        threads: The number of threads that graphs are chosen for.
        seconds: How long it took to prepare each contender, by name.
    """

    artifact: Path
    folder: Path
    threads: int
    seconds: dict[str, float] = field(default_factory=dict)
    _faults: dict[str, str] = field(default_factory=dict)

    def prepared_job(self, contender: Contender, threads: int, streams: int = 0) -> Job:
        """The job of a contender whose files are ready.

        Raises:
            ProcessFailed: Preparing failed, now or earlier.
        """
        job = self.unprepared_job(contender, threads, streams)
        name = contender.name
        if name in self._faults:
            raise ProcessFailed(self._faults[name])
        if contender.precision in PEERS[contender.peer].prepared and name not in self.seconds:
            process = Process(self.unprepared_job(contender, self.threads))
            try:
                self.seconds[name] = process.prepare()
            except ProcessFailed as error:
                self._faults[name] = str(error)
                raise
            finally:
                process.close()
        return job

    def unprepared_job(self, contender: Contender, threads: int, streams: int = 0) -> Job:
        """The job of a contender that uses the artifact as it is."""
        folder = self.folder / contender.name.replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        return Job(self.artifact, contender, PEERS[contender.peer].module, threads, folder, streams)
