"""The worker's side of its pipe to the parent: messages on what used to be stdout."""

import os

from .messages import Event, Failed, Finished, StageDone, StageProgress, StageStarted, to_line


class Events:
    """Sends messages to the parent, each flushed at once."""

    def __init__(self) -> None:
        # fd 1 becomes stderr, so that no print of a library can break the protocol.
        self._stream = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)

    def send(self, message: Event | Finished | Failed) -> None:
        """Send one message."""
        self._stream.write(to_line(message))
        self._stream.flush()

    def start(self, stage: str, text: str) -> None:
        """Begin a stage of the log."""
        self.send(StageStarted(stage, text))

    def progress(self, done: int, total: int) -> None:
        """Report how far the current stage is."""
        self.send(StageProgress(done, total))

    def done(self, detail: str, size: int | None = None) -> None:
        """End the current stage: what it made, and the size of that in bytes."""
        self.send(StageDone(detail, size))
