"""The tiny artifact of schema 1, which the engine, ONNX Runtime and Paddle all read."""

from pathlib import Path

import pytest

from albert_bench.peers.base import ENGINE, PEERS, Contender, Job

TINY = Path(__file__).parent.parent / "data" / "artifacts" / "schema-1" / "tiny.manifest.json"


@pytest.fixture(scope="session")
def tiny() -> Path:
    """The path of an artifact of 16 positions and 40 words."""
    return TINY


@pytest.fixture
def make_job(tmp_path):
    """make_job(peer="engine", precision="fp32", threads=1, streams=0) -> Job on the tiny artifact."""

    def make(peer: str = ENGINE, precision: str = "fp32", threads: int = 1, streams: int = 0) -> Job:
        return Job(TINY, Contender(peer, precision), PEERS[peer].module, threads, tmp_path, streams)

    return make
