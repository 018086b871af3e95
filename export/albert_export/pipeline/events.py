"""What a worker process tells the export that started it: JSON lines on its stdout."""

import json
import os


class Events:
    """The stream of JSON lines to the parent."""

    def __init__(self) -> None:
        # fd 1 becomes stderr, so that no print of a library can break the protocol.
        self._stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def send(self, event: str, **values: object) -> None:
        """One event, flushed."""
        self._stream.write(json.dumps({"event": event, **values}) + "\n")
        self._stream.flush()

    def start(self, stage: str, text: str) -> None:
        """Beginning of a stage."""
        self.send("stage", name=stage, text=text)

    def done(self, detail: str, size: int | None = None) -> None:
        """End of the current stage: what came of it, and its bytes."""
        self.send("done", detail=detail, bytes=size)

    def progress(self, done: int, total: int) -> None:
        """Progress of the current stage."""
        self.send("progress", done=done, total=total)
