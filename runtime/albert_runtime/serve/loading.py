"""Loads models while the server runs: at its start, and again when their artifacts have been replaced.

A load reads, checks and warms up the new version beside the one that answers. Then, between two requests, the
new one takes over. Where that fails, the old one goes on.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable

from ..errors import AlbertError
from .concurrency import run_in_own_thread
from .errors import LoadFailed, NotAllowed
from .metrics import Metrics
from .model import Model
from .models import Entry, Models
from .statistics import Statistics

_log = logging.getLogger("albert_serve")
_UNLOADED = "unloaded"  # Triton's word for it in the repository index


class Loader:
    """Loads and unloads the models of a server, one at a time.

    Args:
        models: The models.
        metrics: Counts loads, and observes each model that is loaded.
        statistics: Observes each model that is loaded.
        allow_requests: Whether clients may load and unload models.

    Attributes:
        started: Whether every model has been loaded once.
    """

    def __init__(
        self, models: Models, metrics: Metrics, statistics: Statistics, *, allow_requests: bool
    ) -> None:
        self._models, self._metrics, self._statistics = models, metrics, statistics
        self._allow_requests = allow_requests
        self._one_at_a_time = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self.started = False

    @property
    def busy(self) -> bool:
        """Whether a load is in progress or due."""
        return bool(self._tasks)

    @property
    def progress(self) -> str:
        """What the server is loading at its start, such as "loading sentiment (1 of 3 models is ready)"."""
        entries = self._models.entries
        waiting = [entry for entry in entries if entry.model is None]
        what = _label(waiting[0]) if waiting else ""
        return f"loading {what} ({len(entries) - len(waiting)} of {len(entries)} models ready)"

    async def start(self) -> None:
        """Load every model for the first time; the first error ends it.

        Raises:
            ArtifactError: An artifact is damaged.
            BackendError: No backend can run it.
        """
        for entry in self._models.entries:
            await self._run(self._take_over(entry, verify=False))
        self.started = True

    async def reload_all(self) -> None:
        """Load every model again, except those that were unloaded; the log tells what failed."""
        for entry in self._models.entries:
            if entry.model is not None:
                try:
                    await self._run(self._reload(entry))
                except LoadFailed:
                    continue  # each by itself

    async def load(self, name: str) -> None:
        """Load all versions of a model, again if they are loaded.

        Raises:
            NotAllowed: Clients may not.
            NotFound: There is no such model.
            LoadFailed: At least one version could not be loaded; what answered before still does.
        """
        self._check_allowed()
        failures = []
        for entry in self._models.entries_of(name):
            try:
                await self._run(self._reload(entry))
            except LoadFailed as error:
                failures.append(str(error))
        if failures:
            raise LoadFailed("; ".join(failures))

    async def unload(self, name: str) -> None:
        """Unload all versions of a model; requests in progress are answered.

        Raises:
            NotAllowed: Clients may not.
            NotFound: There is no such model.
        """
        self._check_allowed()
        entries = self._models.entries_of(name)
        async with self._one_at_a_time:  # else a load in progress would undo it
            for entry in entries:
                self._models.replace(entry, None, _UNLOADED)
                self._metrics.remove_model(_label(entry))
                _log.info("unloaded", extra={"fields": {"model": _label(entry)}})

    def _check_allowed(self) -> None:
        if not self._allow_requests:
            raise NotAllowed(
                "this server does not load or unload models for clients; start it with --allow-load, "
                "or send it SIGHUP"
            )

    async def _run(self, work: Awaitable[None]) -> None:
        """Await a load, which goes on if the caller is cancelled: a client may disconnect."""
        task = asyncio.ensure_future(self._in_turn(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    async def _in_turn(self, work: Awaitable[None]) -> None:
        async with self._one_at_a_time:
            await work

    async def _reload(self, entry: Entry) -> None:
        try:
            await self._take_over(entry, verify=True)
        except Exception as error:  # of any library that loads a part of it
            reason = str(error) if isinstance(error, AlbertError) else type(error).__name__
            still = "the version loaded before still answers" if entry.model else "it is not loaded"
            self._metrics.count_load(_label(entry), "failed")
            entry.reason = reason
            _log.error(
                "load failed",
                extra={"fields": {"model": _label(entry), "reason": reason, "answers": still}},
                exc_info=not isinstance(error, AlbertError),
            )
            raise LoadFailed(f"cannot load {_label(entry)}: {reason}; {still}") from None

    async def _take_over(self, entry: Entry, *, verify: bool) -> None:
        began = time.perf_counter()
        model = await run_in_own_thread(lambda: entry.load(self._models.limits, verify=verify))
        # From here on nothing is awaited: every request begins either before all of this or after it.
        self._models.replace(entry, model)
        self._metrics.add_model(model)
        self._statistics.add_model(model)
        self._metrics.count_load(model.label, "ok")
        _log.info("loaded", extra={"fields": _describe(model, time.perf_counter() - began)})


def _describe(model: Model, seconds: float) -> dict[str, object]:
    return {
        "model": model.label,
        "backend": model.predictor.backend,
        "weights_sha256": model.manifest.files["weights"].sha256[:12],
        "seconds": round(seconds, 2),
    }


def _label(entry: Entry) -> str:
    return entry.name if entry.version == "1" else f"{entry.name}/{entry.version}"
