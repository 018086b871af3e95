"""A bar on a terminal for what takes longer than a moment, where the package rich is installed."""

import importlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_MOMENT = 1.0  # seconds


@contextmanager
def bar(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A function to call with the number of steps just done; it draws on stderr if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda steps: None
        return
    shown = _Bar(label, total)
    try:
        yield shown.advance
    finally:
        shown.stop()


class _Bar:
    def __init__(self, label: str, total: int | None) -> None:
        self._label, self._total = label, total
        self._began = time.monotonic()
        self._done = 0
        self._live: Any = None
        self._task: Any = None

    def advance(self, steps: int) -> None:
        self._done += steps
        if self._live is None and time.monotonic() - self._began > _MOMENT:
            self._start()
        if self._live is not None:
            self._live.update(self._task, completed=self._done)

    def stop(self) -> None:
        if self._live is not None:
            self._live.stop()

    def _start(self) -> None:
        try:
            console, progress = (importlib.import_module(f"rich.{name}") for name in ("console", "progress"))
        except ImportError:
            self._began = float("inf")  # never asked for again
            return
        self._live = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            console=console.Console(stderr=True),
            transient=True,
        )
        self._task = self._live.add_task(self._label, total=self._total)
        self._live.start()
