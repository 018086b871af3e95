"""The machine's ceiling: how many multiply-adds it makes out of registers, now, in a precision."""

from importlib import import_module


def ceiling(precision: str, threads: int) -> float | None:
    """Operations a second, two a multiply-add; None where the CPU or the extension has no such probe."""
    try:
        probe = import_module("albert_runtime._native").probe
    except (ImportError, AttributeError):
        return None
    giga = float(probe(precision, threads))
    return giga * 1e9 if giga > 0 else None
