"""Activations of float32 values, applied in the last step of a product."""

import triton
import triton.language as tl

SQRT_HALF = tl.constexpr(0.7071067811865476)
MINUS_2_SQRT_2_OVER_PI = tl.constexpr(-1.5957691216057308)


@triton.jit
def activate(x, ACTIVATION: tl.constexpr):
    """``ACTIVATION`` of x: none, gelu (erf), gelu_new (tanh), relu or tanh."""
    if ACTIVATION == "gelu":
        x = 0.5 * x * (1 + tl.erf(x * SQRT_HALF))
    elif ACTIVATION == "gelu_new":
        # 0.5 (1 + tanh u) = 1 / (1 + exp(-2u))
        x = x / (1 + tl.exp((x + 0.044715 * x * x * x) * MINUS_2_SQRT_2_OVER_PI))
    elif ACTIVATION == "relu":
        x = tl.maximum(x, 0.0)
    elif ACTIVATION == "tanh":
        x = 2 / (1 + tl.exp(-2 * x)) - 1
    else:
        tl.static_assert(ACTIVATION == "none")
    return x
