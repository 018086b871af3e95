"""The engine's fused kernels on numpy arrays: float32 in, float32 out, the same bits on every ISA.

Inputs that are not C-contiguous float32 are converted, which copies them.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from albert_runtime import _native
from albert_runtime.errors import InputError

__all__ = ["attention", "gelu", "isas", "layer_norm", "linear", "peak"]

_Float = NDArray[np.float32]
_P = ParamSpec("_P")
_R = TypeVar("_R")


def isas() -> list[str]:
    """The ISAs that this build has and this processor runs.

    Returns:
        Their names, the newest first; the last is always ``generic``.
    """
    return _native.isas()


def peak(precision: str = "fp32", num_threads: int = 1) -> float | None:
    """Measure how fast this machine multiplies and adds out of registers, the ceiling of any matrix product.

    Args:
        precision: fp32, bf16 or int8.
        num_threads: Threads that compute at the same time.

    Returns:
        Operations per second, a multiply-add counting two; None if the processor has no instructions for the
        precision.

    Raises:
        InputError: The precision is unknown, or num_threads is out of range.
    """
    giga = _call(_native.probe, precision, num_threads)
    return giga * 1e9 if giga > 0 else None


def linear(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    activation: str = "none",
    num_threads: int = 1,
    precision: str = "fp32",
    isa: str | None = None,
) -> _Float:
    """``activation(x @ weight + bias)``.

    Each element is the ordered sum of one chain of fused multiply-adds for every 256 words of K, so a row's
    bits do not depend on the other rows or on ``num_threads``; a word is 1 value in fp32, 2 in bf16, 4 in
    int8. The weight is packed anew in each call; the engine packs it once.

    Args:
        x: [N, K].
        weight: [K, M], Paddle's layout: the input dimension first.
        bias: [M], or None for zeros.
        activation: none, gelu (by erf), gelu_tanh, relu or tanh.
        num_threads: At least 1.
        precision: fp32; bf16 rounds x and weight to bfloat16 first; int8 multiplies the integers nearest to
            x * 127 / max|row of x| and weight * 127 / max|column of weight|.
        isa: One of :func:`isas`; None = ``ALBERT_FORCE_ISA`` if it is set, else the fastest.

    Returns:
        float32 [N, M].

    Raises:
        InputError: The shapes do not fit together, an option is unknown, or num_threads is out of range.
    """
    return _call(
        _native.linear,
        _float(x),
        _float(weight),
        _optional(bias),
        activation=activation,
        num_threads=num_threads,
        precision=precision,
        isa=isa,
    )


def gelu(x: ArrayLike, *, approximate: str = "none", isa: str | None = None) -> _Float:
    """GELU, ``x * Phi(x)``, in either form of Hendrycks and Gimpel, "Gaussian Error Linear Units" (2016).

    Args:
        x: Any shape.
        approximate: ``none`` computes Phi by erf; ``tanh`` takes
            ``(1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2`` for it.
        isa: One of :func:`isas`; None = ``ALBERT_FORCE_ISA`` if it is set, else the fastest.

    Returns:
        float32, the shape of x.

    Raises:
        InputError: An option is unknown.
    """
    names = {"none": "gelu", "tanh": "gelu_tanh"}
    if approximate not in names:
        raise InputError(f"approximate must be 'none' or 'tanh', not {approximate!r}")
    return _call(_native.activate, _float(x), names[approximate], isa=isa)


def layer_norm(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike,
    *,
    eps: float = 1e-12,
    residual: ArrayLike | None = None,
    isa: str | None = None,
) -> _Float:
    """``(v - mean) / sqrt(variance + eps) * weight + bias`` of each row, ``v = x + residual``.

    Args:
        x: [N, H].
        weight: [H].
        bias: [H].
        eps: Added to the variance.
        residual: [N, H], or None for zeros.
        isa: One of :func:`isas`; None = ``ALBERT_FORCE_ISA`` if it is set, else the fastest.

    Returns:
        float32 [N, H].

    Raises:
        InputError: The shapes do not fit together, or ``isa`` is unknown.
    """
    return _call(
        _native.layer_norm,
        _float(x),
        _float(weight),
        _float(bias),
        epsilon=eps,
        residual=_optional(residual),
        isa=isa,
    )


def attention(
    q: ArrayLike, k: ArrayLike, v: ArrayLike, *, precision: str = "fp32", isa: str | None = None
) -> _Float:
    """``softmax(q k^T / sqrt(D)) v`` for each head of one sequence. The score matrix is never stored.

    Args:
        q: [Tq, heads, D].
        k: [Tk, heads, D].
        v: [Tk, heads, D].
        precision: fp32; bf16 rounds q, k, v and the softmax weights to bfloat16 before they are multiplied.
        isa: One of :func:`isas`; None = ``ALBERT_FORCE_ISA`` if it is set, else the fastest.

    Returns:
        float32 [Tq, heads, D].

    Raises:
        InputError: The shapes do not fit together, or an option is unknown.
    """
    return _call(_native.attention, _float(q), _float(k), _float(v), precision=precision, isa=isa)


def _float(array: ArrayLike) -> _Float:
    return np.ascontiguousarray(array, dtype=np.float32)


def _optional(array: ArrayLike | None) -> _Float | None:
    return None if array is None else _float(array)


def _call(kernel: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    try:
        return kernel(*args, **kwargs)
    except ValueError as error:
        raise InputError(str(error)) from None
