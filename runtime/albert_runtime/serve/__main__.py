"""The start of `albert-serve`: it can be stopped before it has imported anything.

The first process of a container (PID 1) ignores SIGTERM until it has a handler for it.
"""

import os
import signal
import sys


def main() -> int:
    """Run the command; its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _exit)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nothing is loaded yet that could be loaded again
    from .cli import main as serve  # noqa: PLC0415  (it imports numpy)

    return serve()


def _exit(number: int, frame: object) -> None:
    # No request has been accepted. SystemExit could get lost in a callback of an import.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
