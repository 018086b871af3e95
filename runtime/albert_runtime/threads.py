"""How many threads a run takes where the caller does not say."""

import logging
import os
import re
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

OMP_NUM_THREADS = "OMP_NUM_THREADS"
MAX_THREADS = 1024
_COUNT = re.compile(r"[+]?0*([1-9][0-9]{0,9})", re.ASCII)
_log = logging.getLogger("albert_runtime")


def available_cpus() -> int:
    """CPUs this process may really use: affinity and, where the extension works, the cgroup's quota."""
    try:
        return int(import_module("albert_runtime._native").available_cpus())
    except ImportError:
        return len(os.sched_getaffinity(0))


def choose_threads(num_threads: int | None) -> tuple[int, str]:
    """The threads of one run, and what they were chosen by.

    Args:
        num_threads: What the caller asks for; None = OMP_NUM_THREADS where it is set, but no more than the
            CPUs available to this process, which are also taken where it is not.

    Returns:
        (threads, "num_threads", "OMP_NUM_THREADS" or "available CPUs").
    """
    if num_threads is not None:
        return num_threads, "num_threads"
    cpus = min(available_cpus(), MAX_THREADS)
    wanted = None if _set_by_paddle() else _read_omp_num_threads(os.environ.get(OMP_NUM_THREADS, ""))
    if wanted is None or wanted > cpus:
        return cpus, "available CPUs"
    return wanted, OMP_NUM_THREADS


def _set_by_paddle() -> bool:
    """Whether 1 is what importing Paddle sets the variable to where nobody has, and no wish of the user's."""
    if os.environ.get(OMP_NUM_THREADS) != "1" or "paddle" not in sys.modules:
        return False
    try:
        at_start = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return not any(entry.startswith(f"{OMP_NUM_THREADS}=".encode()) for entry in at_start)


@cache  # so that each wrong value is told once
def _read_omp_num_threads(value: str) -> int | None:
    """OpenMP's list of threads by nesting level, "4" or "4,2": its first; None if it is empty or wrong."""
    if not value.strip():
        return None
    levels = [_COUNT.fullmatch(level.strip()) for level in value.split(",")]
    if levels[0] is None or None in levels:
        _log.warning("%s is %.40r, no number of threads; it is ignored", OMP_NUM_THREADS, value)
        return None
    return int(levels[0][1])
