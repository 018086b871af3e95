"""What the user sees on stderr: a stage log with sizes and seconds, a live bar, a table at the end."""

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..names import human_size
from ..verify import REFERENCE_TITLE, Allowed, Results


class Report:
    """The stage log. A stage is started, may report progress, and ends with ``done``: its line."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self._live: Progress | None = None
        self._task: TaskID | None = None
        self._stage = ""
        self._began = 0.0
        self.peaks: dict[str, int] = {}

    def say(self, text: str, style: str | None = None) -> None:
        """One plain line; of a path that is not UTF-8 the odd bytes are shown as escapes."""
        text = text.encode(errors="backslashreplace").decode()
        self._console.print(text, style=style, markup=False)

    def start(self, stage: str, text: str) -> None:
        """Begin a stage; ``text`` is shown while it runs, on a terminal."""
        self.stop()
        self._stage, self._began = stage, time.perf_counter()
        if self._console.is_terminal and not self._console.quiet:
            columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
            self._live = Progress(*columns, console=self._console, transient=True)
            self._task = self._live.add_task(f"{stage}: {text}", total=None)
            self._live.start()

    def progress(self, done: int, total: int) -> None:
        """How far the running stage is."""
        if self._live is not None and self._task is not None:
            self._live.update(self._task, completed=done, total=total)

    def done(self, detail: str, size: int | None = None) -> None:
        """End the running stage with its line: name, detail, size, seconds."""
        self.stop()
        seconds = time.perf_counter() - self._began
        bytes_text = "" if size is None else human_size(size)
        self.say(f"{self._stage:<12}{bytes_text:>9}  {seconds:6.1f} s  {detail}")

    def stop(self) -> None:
        """Take the live line away; safe to call at any time."""
        if self._live is not None:
            self._live.stop()
        self._live = self._task = None

    def peak(self, process: str, size: int) -> None:
        """Note the most memory that a kind of process had resident."""
        self.peaks[process] = max(size, self.peaks.get(process, 0))

    def table(self, backends: Results, allowed: Allowed, against: str = REFERENCE_TITLE) -> None:
        """The verification's errors against the reference, or another."""
        table = Table(title=f"against {against} (allowed: {allowed})", title_justify="left")
        for heading in ("backend", "output"):
            table.add_column(heading)
        for heading in ("max abs", "typical", "max rel", "1 - cosine", "typical"):
            table.add_column(heading, justify="right")
        for backend, outputs in backends.items():
            for name, errors in outputs.items():
                distances = (errors.max_abs, errors.typical_abs, errors.max_rel)
                angles = (1.0 - errors.cosine, 1.0 - errors.typical_cosine)
                table.add_row(backend, name, *(f"{number:.1e}" for number in (*distances, *angles)))
        self._console.print(table)

    def depths(self, backends: Results) -> None:
        """The errors of the hidden states after each depth."""
        table = Table(title="hidden states against float64, by depth", title_justify="left")
        table.add_column("depth", justify="right")
        for backend in backends:
            for heading in ("max abs", "1 - cosine"):
                table.add_column(f"{backend}: {heading}", justify="right")
        for depth in next(iter(backends.values())):
            errors = [outputs[depth] for outputs in backends.values()]
            numbers = [number for one in errors for number in (one.max_abs, 1.0 - one.cosine)]
            table.add_row(depth, *(f"{number:.1e}" for number in numbers))
        self._console.print(table)
