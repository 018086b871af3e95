"""What the figures were measured on: the processor, the memory, the versions, the date."""

import datetime
import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from albert_runtime.backends.registry import available_cpus

from .peers.base import PEERS

_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def describe() -> dict[str, Any]:
    """The machine, ready for JSON: processor, its instructions, CPUs this process may use, memory, system."""
    cpu = _read("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", cpu, re.MULTILINE)
    flags = set(" ".join(re.findall(r"^flags\s*:\s*(.+)$", cpu, re.MULTILINE)[:1]).split())
    memory = re.search(r"^MemTotal:\s*(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    return {
        "cpu": model.group(1).strip() if model else platform.machine(),
        "instructions": [flag for flag in _FLAGS if flag in flags],
        "cpus": available_cpus(),
        "cpus_of_machine": os.cpu_count(),
        "memory_bytes": int(memory.group(1)) * 1024 if memory else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def versions(peers: Iterable[str]) -> dict[str, str]:
    """Installed versions of the packages behind the named peers."""
    return {name: version for peer in peers for name, version in PEERS[peer].versions().items()}


def today() -> str:
    """The date, UTC."""
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
