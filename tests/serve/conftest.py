"""Servers of tiny models: as processes, and as an application within the test's own."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from albert_runtime import Predictor
from albert_runtime.artifact.sentence import DENSE, SentenceHead, SentenceTexts, Step

from ..runtime.conftest import piece_tokenizer, write_artifact
from .server import PATIENCE, Server

pytest.importorskip("uvicorn")

__all__ = ["piece_tokenizer"]

Start = Callable[..., Server]

TASKS: dict[str, dict[str, Any]] = {
    "embedder": {"task": "model"},
    "sentiment": {"task": "sequence-classification", "labels": ("bad", "good", "so-so")},
    "entities": {"task": "token-classification", "labels": ("O", "B-PER", "I-PER")},
    "reader": {"task": "question-answering"},
    "filler": {"task": "masked-lm"},
    "chooser": {"task": "multiple-choice"},
    "words": {"task": "token-classification", "labels": ("NOUN", "VERB", "DET")},
    "relevance": {"task": "sequence-classification", "labels": ("relevant",)},
}
# A model of a sentence-transformers folder: 7 numbers of its 12 hidden ones, prompts, short texts.
SENTENCES: dict[str, Any] = {
    "sentence": SentenceHead(("mean",), (Step(DENSE, 12, 7, True, "Tanh"),)),
    "sentence_texts": SentenceTexts({"query": "who lives: ", "document": ""}, "document", False),
}


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory, piece_tokenizer: Path) -> dict[str, Path]:
    """One for every task by name, "sentences", and "embedder 2" of the name of "embedder"."""
    folder = tmp_path_factory.mktemp("served")

    def write(name: str, stem: str, **options: Any) -> Path:
        return write_artifact(
            folder / name, stem, tokenizer=piece_tokenizer, max_position_embeddings=64, **options
        )

    found = {name: write(name, name, **options) for name, options in TASKS.items()}
    found["sentences"] = write("sentences", "sentences", max_length=9, **SENTENCES)
    found["embedder 2"] = write("embedder 2", "embedder", seed=7, task="model")
    return found


@pytest.fixture(scope="session")
def predictors(artifacts: dict[str, Path]) -> dict[str, Predictor]:
    """What the answers must be equal to."""
    return {
        name: Predictor(path, backend="native", num_threads=1, max_batch_tokens=64)
        for name, path in artifacts.items()
    }


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """start(artifacts, *flags, ...) -> Server, which ends with the module's tests."""
    servers: list[Server] = []

    def started(paths: Any, *flags: object, **options: Any) -> Server:
        log = options.pop("log", None) or tmp_path_factory.mktemp("log") / "log"
        servers.append(Server(log, paths, *flags, **options))
        return servers[-1]

    yield started
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def server(start: Start, artifacts: dict[str, Path]) -> Server:
    """All models; the second version of "embedder" is the latest."""
    return start(list(artifacts.values()), "--max-batch-tokens", 64)


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    """Of the server's HTTP side."""
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as made:
        yield made


class App:
    """The application without sockets, in an event loop that runs while it is asked."""

    def __init__(self, loop: asyncio.AbstractEventLoop, service: Any) -> None:
        from albert_runtime.serve.http.app import make_app

        self.loop, self.service, self.app = loop, service, make_app(service, "1.2.3")
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://server", timeout=PATIENCE
        )

    def run(self, work: Any) -> Any:
        """The result of a coroutine."""
        return self.loop.run_until_complete(asyncio.wait_for(work, PATIENCE))

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask."""
        return self.run(self.client.request(method, path, **options))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def make_app(artifacts: dict[str, Path]) -> Iterator[Callable[..., App]]:
    """make_app(*names, load=True, allow_load=False, options=..., **limits) -> App of these models."""
    from albert_runtime.serve.limits import ServerLimits
    from albert_runtime.serve.models import Models
    from albert_runtime.serve.service import Service

    loop = asyncio.new_event_loop()
    made: list[App] = []

    def make(
        *names: str, load: bool = True, allow_load: bool = False, options: Any = None, **limits: Any
    ) -> App:
        bounds = ServerLimits(**limits)
        models = Models(bounds)
        for name in names:
            models.add(str(artifacts[name]), **{"backend": "native", "num_threads": 1, **(options or {})})

        async def built() -> Any:
            service = Service(models, bounds, allow_load=allow_load)
            if load:
                await service.loader.start()
            return service

        made.append(App(loop, loop.run_until_complete(built())))
        return made[-1]

    yield make
    for app in made:
        app.run(app.client.aclose())
        app.service.models.close(cancel=True)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def assert_equal(answer: Any, expected: Any) -> None:
    """The same names, shapes and bits."""
    assert set(answer) == set(expected)
    for name, values in expected.items():
        assert answer[name].dtype == np.float32 and answer[name].shape == values.shape, name
        assert np.array_equal(answer[name], values), name
