"""What was it measured on? The processor, memory, package versions, date; and the memory of a process."""

import datetime
import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from albert_runtime.threads import available_cpus

from .peers.base import PEERS

_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def describe() -> dict[str, Any]:
    """The machine, ready for JSON: processor and its instructions, usable CPUs, memory, system, Python."""
    cpu = _read("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", cpu, re.MULTILINE)
    flags = set(" ".join(re.findall(r"^flags\s*:\s*(.+)$", cpu, re.MULTILINE)[:1]).split())
    return {
        "cpu": model.group(1).strip() if model else platform.machine(),
        "instructions": [flag for flag in _FLAGS if flag in flags],
        "cpus": available_cpus(),
        "cpus_of_machine": os.cpu_count(),
        "memory_bytes": _bytes("/proc/meminfo", "MemTotal"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def versions(peers: Iterable[str]) -> dict[str, str]:
    """Installed versions of the packages behind the named peers."""
    return {name: version for peer in peers for name, version in PEERS[peer].versions().items()}


def today() -> str:
    """The date in UTC."""
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


def resident_bytes(pid: int | str = "self") -> int:
    """Memory that a process occupies now; this process by default."""
    return _bytes(f"/proc/{pid}/status", "VmRSS") or 0


def peak_resident_bytes() -> int:
    """The most memory this process has ever occupied."""
    return _bytes("/proc/self/status", "VmHWM") or 0


def _bytes(path: str, name: str) -> int | None:
    match = re.search(rf"^{name}:\s*(\d+) kB", _read(path), re.MULTILINE)
    return int(match.group(1)) * 1024 if match else None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
