"""The engine's fused kernels on numpy arrays: float32 in, float32 out, the same bits on every ISA.

Inputs are made C-contiguous float32 (a copy if they are not). ``isa`` forces one of :func:`isas`; the
default is the fastest, or what the environment variable ``ALBERT_FORCE_ISA`` names. Wrong shapes raise
``InputError``.
"""

from collections.abc import Callable
from typing import ParamSpec

import numpy as np
from numpy.typing import ArrayLike, NDArray

from albert_runtime import _native
from albert_runtime.errors import InputError

__all__ = ["attention", "gelu", "isas", "layer_norm", "linear"]

_Float = NDArray[np.float32]
_P = ParamSpec("_P")


def isas() -> list[str]:
    """The ISAs that this build has and this processor runs, the newest first."""
    return _native.isas()


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

    x [N, K], weight [K, M] (Paddle's layout, input first), bias [M] -> [N, M]. ``activation``: none, gelu
    (erf), gelu_tanh, relu or tanh. Each element is the ordered sum of one chain of fused multiply-adds for
    every 256 words of K, so a row's bits do not depend on the other rows or on ``num_threads``; a word is 1
    value in fp32, 2 in bf16, 4 in int8. ``precision`` bf16 rounds x and weight to bfloat16 first; int8
    multiplies the integers nearest to x * 127 / max|row of x| and weight * 127 / max|column of weight|. The
    weight is packed anew in each call; the engine packs it once.
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
    """``x * Phi(x)``, Phi by erf.

    With ``approximate="tanh"`` Phi is ``(1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2``. Any shape.
    Both forms are those of Hendrycks and Gimpel, "Gaussian Error Linear Units" (2016).
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
    """``(v - mean) / sqrt(variance + eps) * weight + bias`` over the last axis, ``v = x + residual``.

    x and residual [N, H]; weight and bias [H] -> [N, H].
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
    """``softmax(q k^T / sqrt(d)) v`` for each head of one sequence.

    q [Tq, heads, d], k and v [Tk, heads, d] -> [Tq, heads, d]. The score matrix is never stored.
    ``precision`` bf16 rounds q, k, v and the weights of softmax to bfloat16 before they are multiplied.
    """
    return _call(_native.attention, _float(q), _float(k), _float(v), precision=precision, isa=isa)


def _float(array: ArrayLike) -> _Float:
    return np.ascontiguousarray(array, dtype=np.float32)


def _optional(array: ArrayLike | None) -> _Float | None:
    return None if array is None else _float(array)


def _call(kernel: Callable[_P, _Float], *args: _P.args, **kwargs: _P.kwargs) -> _Float:
    try:
        return kernel(*args, **kwargs)
    except ValueError as error:
        raise InputError(str(error)) from None
