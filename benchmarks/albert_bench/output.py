"""What every benchmark command writes: progress and errors on stderr, results as JSON."""

import json
import sys
from pathlib import Path
from typing import Any

_PROGRAM = "albert-bench"


def log(text: str) -> None:
    """Print one line of progress on stderr."""
    print(f"{_PROGRAM}: {text}", file=sys.stderr, flush=True)


def report_error(message: str, code: int) -> int:
    """Print an error as one line on stderr and return the exit code it was given."""
    log(f"error: {' '.join(message.split())}")
    return code


def write_json(results: dict[str, Any], path: Path) -> None:
    """Write results to a file; its folder is made if it does not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
