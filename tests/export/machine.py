"""Which backends can run a precision on this machine, told by its processor, not by the code under test."""

import os
from pathlib import Path

BACKENDS = ("native", "onnxruntime", "paddle")
# Words of the reasons for which the others are left out.
REASONS = {
    ("fp16", "paddle"): "Paddle computes no float16 on a CPU",
    ("bf16", "onnxruntime"): "ONNX Runtime multiplies no bfloat16 on a CPU",
    ("bf16", "paddle"): "Paddle multiplies no bfloat16 on this processor",
}


def left_out(precision: str) -> dict[str, str]:
    """The backends that cannot run an artifact of this precision here, with the words of their reasons."""
    found = {backend: REASONS[precision, backend] for backend in BACKENDS if (precision, backend) in REASONS}
    if _multiplies_bfloat16() and precision == "bf16":
        del found["paddle"]
    return found


def answering(precision: str) -> tuple[str, ...]:
    """The backends that run it."""
    return tuple(backend for backend in BACKENDS if backend not in left_out(precision))


def _multiplies_bfloat16() -> bool:
    # What oneDNN asks for; the variable keeps it from using what is there.
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    return "avx512bw" in Path("/proc/cpuinfo").read_text("ascii") and limit.startswith("AVX512")
