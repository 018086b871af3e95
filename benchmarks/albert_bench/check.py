"""Are the answers right? Outputs too far from the engine's in fp32 are reported, and never timed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from .peers.base import Answer

# fp32: the largest difference relative to the largest value. Others: the lowest cosine of any token or row.
MAX_DIFFERENCE = 1e-4
MIN_COSINE = {"bf16": 0.99, "int8": 0.95}


@dataclass(frozen=True, slots=True)
class Check:
    """How far one contender's answers are from the reference; ``fault`` says what is wrong, if anything."""

    difference: float
    cosine: float
    fault: str | None

    def to_dict(self) -> dict[str, object]:
        """Ready for JSON."""
        return asdict(self)


def check(expected: Sequence[Answer], found: Sequence[Answer], precision: str) -> Check:
    """Compare the answers of all rows; each output of the reference must be present and of the same shape."""
    difference, cosine = 0.0, 1.0
    for row, (wanted, actual) in enumerate(zip(expected, found, strict=True)):
        for name, reference in wanted.items():
            if name not in actual:
                return Check(np.inf, -1.0, f"row {row} has no {name}")
            values = actual[name]
            if values.shape != reference.shape:
                fault = f"{name} of row {row} has shape {values.shape} instead of {reference.shape}"
                return Check(np.inf, -1.0, fault)
            if not np.isfinite(values).all():
                return Check(np.inf, -1.0, f"{name} of row {row} is not finite")
            scale = max(1.0, float(np.abs(reference).max()))
            difference = max(difference, float(np.abs(values - reference).max()) / scale)
            cosine = min(cosine, _lowest_cosine(reference, values))
    return Check(difference, cosine, _fault(difference, cosine, precision))


def _lowest_cosine(reference: np.ndarray, values: np.ndarray) -> float:
    a, b = (np.atleast_2d(array).astype(np.float64) for array in (reference, values))
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return float(((a * b).sum(-1) / np.maximum(norms, np.finfo(float).tiny)).min())


def _fault(difference: float, cosine: float, precision: str) -> str | None:
    if precision == "fp32":
        if difference > MAX_DIFFERENCE:
            return f"differs by {difference:.1e} from the engine in fp32, more than {MAX_DIFFERENCE:.0e}"
    elif cosine < MIN_COSINE[precision]:
        return f"has a cosine of {cosine:.4f} to the engine in fp32, less than {MIN_COSINE[precision]}"
    return None
