"""Replaces the artifact that a server answers from, again and again, and knows which version must answer."""

import asyncio
import json
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from albert_export.checkpoint.weights import RandomWeights
from albert_runtime import Predictor
from albert_runtime.artifact import Manifest
from albert_runtime.artifact.manifest import SUFFIX

from ..process import ProcessFailed
from ..seeded import BARE, write_artifact
from .client import Reply
from .servers import RunningServer

_LOAD_SECONDS = 300.0


def two_versions(artifact: Path, manifest: Manifest, folder: Path) -> list[Path]:
    """Folders with the artifact, and with one of the same name and config that has other weights."""
    versions = [folder / "version-0", folder / "version-1"]
    versions[0].mkdir()
    source = artifact if artifact.is_dir() else artifact.parent
    for name in (f"{manifest.name}{SUFFIX}", *(record.name for record in manifest.files.values())):
        shutil.copy(source / name, versions[0] / name)
    versions[1].mkdir()
    write_artifact(versions[1], manifest.name, manifest.config, manifest.precision, BARE, RandomWeights(1))
    return versions


def answers_of(version: Path, rows: Sequence[Any], output: str) -> list[bytes]:
    """The bytes of the output for each row, run alone."""
    predictor = Predictor(version, backend="native")
    return [predictor.run([row.tolist()], [output])[output].astype("<f4").tobytes() for row in rows]


@dataclass(slots=True)
class Reloads:
    """Two versions of a model in turn, and a check of the answers.

    Attributes:
        server: The server.
        folder: The folder that it was started with.
        versions: The folders of the two versions; the first one is served at the start.
        expected: For each version the bytes of the answer to each request.
        count: How many reloads have ended.
    """

    server: RunningServer
    folder: Path
    versions: Sequence[Path]
    expected: Sequence[Sequence[bytes]]
    count: int = 0
    # (moment of the signal, moment by which the version answered, version), in order.
    _switches: list[tuple[float, float, int]] = field(default_factory=lambda: [(0.0, 0.0, 0)])

    async def run(self, every: float) -> None:
        """Reload every so many seconds, until cancelled; ProcessFailed if a load fails."""
        while True:
            await asyncio.sleep(every)
            await self.reload()

    async def reload(self) -> None:
        """Put the other version's files in place, as an export does, and have it loaded."""
        version = 1 - self._switches[-1][2]
        await asyncio.to_thread(place, self.versions[version], self.folder)
        self._switches.append((time.perf_counter(), float("inf"), version))
        self.server.process.send_signal(signal.SIGHUP)
        until = time.perf_counter() + _LOAD_SECONDS
        # One load at the start.
        while self._loaded() < 2 + self.count:
            if time.perf_counter() > until:
                raise ProcessFailed(f"the server did not load a new version within {_LOAD_SECONDS:g} s")
            await asyncio.sleep(0.05)
        self.count += 1
        self._switches[-1] = (self._switches[-1][0], time.perf_counter(), version)

    def is_right(self, number: int, reply: Reply, sent: float, received: float) -> bool:
        """Whether an answer is that of a version which may have answered between these moments."""
        index = number % len(self.expected[0])
        return any(
            reply.body.endswith(self.expected[version][index]) for version in self._possible(sent, received)
        )

    def _possible(self, sent: float, received: float) -> set[int]:
        found = set()
        ends = [loaded for _, loaded, _ in self._switches[1:]] + [float("inf")]
        for (signalled, _, version), end in zip(self._switches, ends, strict=True):
            if signalled <= received and sent <= end:
                found.add(version)
        return found

    def _loaded(self) -> int:
        lines = self.server.log.read_text("utf-8").splitlines()
        events = [json.loads(line) for line in lines if '"load' in line]
        failed = [event for event in events if event["event"] == "load failed"]
        if failed:
            raise ProcessFailed(f"a new version was not loaded: {failed[0]['reason']}")
        return sum(event["event"] == "loaded" for event in events)


def place(version: Path, folder: Path) -> None:
    """Copy a version's files over those in the folder, by renaming, the manifest last."""
    for file in sorted(version.iterdir(), key=lambda file: file.name.endswith(SUFFIX)):
        part = folder / f".{file.name}.part"
        shutil.copy(file, part)
        part.replace(folder / file.name)
