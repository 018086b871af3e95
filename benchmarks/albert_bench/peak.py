"""How fast can this machine multiply? Measures the peak of multiply-adds on registers, in one precision."""

import albert_runtime


def peak_ops(precision: str, threads: int) -> float | None:
    """Measure the peak, in operations per second; a multiply-add counts as two.

    None if the extension is missing or this CPU has no such instructions.
    """
    try:
        kernels = albert_runtime.kernels
    except ImportError:
        return None
    return kernels.peak(precision, threads)
