"""How fast can this GPU multiply? Measures torch's product of two large square matrices, which is cuBLAS."""

import time

import numpy as np
import torch

_SIZE = {"cuda": 8192, "cpu": 256}
_WARM_UP, _PRODUCTS = 3, 5
_TYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class MatrixRate:
    """The rate of each precision; every call measures it anew.

    Attributes:
        size: Rows and columns of the matrices.
        probes: What was measured so far, in operations per second, by precision.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._operands: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        self.size = _SIZE[device]
        self.probes: dict[str, list[float]] = {}

    def __call__(self, precision: str) -> float:
        """Operations per second now, a multiply-add counting two; int8 sums are int32, tf32 takes float32."""
        if precision not in self._operands:
            self._operands[precision] = self._random(precision), self._random(precision)
        a, b = self._operands[precision]
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        try:
            taken = [self._seconds(a, b) for _ in range(_WARM_UP + _PRODUCTS)][_WARM_UP:]
        finally:
            torch.set_float32_matmul_precision(before)
        rate = 2 * self.size**3 / float(np.median(taken))
        self.probes.setdefault(precision, []).append(rate)
        return rate

    def _random(self, precision: str) -> torch.Tensor:
        shape = (self.size, self.size)
        if precision == "int8":
            return torch.randint(-127, 128, shape, dtype=torch.int8, device=self._device)
        return torch.randn(shape, device=self._device).to(_TYPES[precision])

    def _seconds(self, a: torch.Tensor, b: torch.Tensor) -> float:
        """One product, a b^T: the layout in which int8 is fast."""
        multiply = torch._int_mm if a.dtype == torch.int8 else torch.mm
        if self._device == "cpu":
            start = time.perf_counter()
            multiply(a, b.t())
            return time.perf_counter() - start
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        multiply(a, b.t())
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3
