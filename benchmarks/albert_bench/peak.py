"""How fast can this machine multiply? Measures the peak of multiply-adds on registers, in one precision."""

from importlib import import_module


def peak_ops(precision: str, threads: int) -> float | None:
    """Measure the peak, in operations per second; a multiply-add counts as two.

    None if the extension is missing or this CPU has no such instructions.
    """
    try:
        probe = import_module("albert_runtime._native").probe
    except (ImportError, AttributeError):
        return None
    giga = float(probe(precision, threads))
    return giga * 1e9 if giga > 0 else None
