"""Memory of this process, from /proc, and of the whole machine."""

import re
from pathlib import Path


def resident() -> int:
    """Bytes of this process in memory now."""
    return _field("/proc/self/status", "VmRSS")


def peak() -> int:
    """The most bytes this process ever had in memory."""
    return _field("/proc/self/status", "VmHWM")


def available() -> int:
    """Bytes that processes can still be given without swapping."""
    return _field("/proc/meminfo", "MemAvailable")


def _field(path: str, name: str) -> int:
    match = re.search(rf"^{name}:\s*(\d+) kB", Path(path).read_text(encoding="ascii"), re.MULTILINE)
    return int(match.group(1)) * 1024 if match else 0
