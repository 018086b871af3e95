"""What contenders need made once from an artifact (quantized and fused graphs), made when first asked for."""

from dataclasses import dataclass, field
from pathlib import Path

from .peers.base import PEERS, Contender, Job
from .process import Child, ChildFailed


@dataclass
class Workshop:
    """A folder for each contender of one artifact; also where the contender's output is logged."""

    artifact: Path
    folder: Path
    threads: int
    seconds: dict[str, float] = field(default_factory=dict)
    _faults: dict[str, str] = field(default_factory=dict)

    def job(self, contender: Contender, threads: int, streams: int = 0) -> Job:
        """The job of a contender, prepared; ChildFailed if that failed, now or before."""
        job = self.unprepared(contender, threads, streams)
        name = contender.name
        if name in self._faults:
            raise ChildFailed(self._faults[name])
        if contender.precision in PEERS[contender.peer].prepared and name not in self.seconds:
            child = Child(self.unprepared(contender, self.threads))
            try:
                self.seconds[name] = child.prepare()
            except ChildFailed as error:
                self._faults[name] = str(error)
                raise
            finally:
                child.close()
        return job

    def unprepared(self, contender: Contender, threads: int, streams: int = 0) -> Job:
        """The job of a contender as the artifact alone allows it."""
        folder = self.folder / contender.name.replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        return Job(self.artifact, contender, PEERS[contender.peer].module, threads, folder, streams)
