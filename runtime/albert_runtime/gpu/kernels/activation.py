"""Activations of float32 values, applied in the last step of a product."""

import triton
import triton.language as tl

SQRT_HALF = tl.constexpr(0.7071067811865476)
# Of gelu_new: -2 sqrt(2 / pi) log2 e, and 0.044715 times that.
LINEAR = tl.constexpr(-2.302208198144325)
CUBIC = tl.constexpr(-0.10294323958002348)


@triton.jit
def activate(x, ACTIVATION: tl.constexpr):
    """``ACTIVATION`` of x: none, gelu (erf), gelu_new (tanh), relu or tanh."""
    if ACTIVATION == "gelu":
        x = 0.5 * x * (1 + tl.erf(x * SQRT_HALF))
    elif ACTIVATION == "gelu_new":
        # 0.5 (1 + tanh u) = 1 / (1 + exp(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3)
        x = x / (1 + tl.exp2(x * (LINEAR + CUBIC * (x * x))))
    elif ACTIVATION == "relu":
        x = tl.maximum(x, 0.0)
    elif ACTIVATION == "tanh":
        x = 2 / (1 + tl.exp(-2 * x)) - 1
    else:
        tl.static_assert(ACTIVATION == "none")
    return x
