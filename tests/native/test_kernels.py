"""Each kernel: the generic build against float64, every other ISA against the generic build, bit for bit."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from albert_runtime import InputError, kernels

Array = NDArray[np.float32]
FAST_ISAS = [isa for isa in kernels.isas() if isa != "generic"]
# Around every vector, panel and tile edge (16, 64, 6), and every block of depth (256).
DEPTHS = [1, 7, 64, 130, 255, 256, 257, 511, 512, 513, 769]
TAILS = [1, 2, 5, 6, 7, 15, 16, 17, 31, 33, 48, 63, 64, 65, 127, 130]


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def same_bits(a: Array, b: Array) -> bool:
    return a.shape == b.shape and bool(np.array_equal(a.view(np.int32), b.view(np.int32)))


def generic_and_equal(kernel: Callable[[str], Array]) -> Array:
    """The generic result; fails unless every ISA of this machine gives the same bits."""
    expected = kernel("generic")
    for isa in FAST_ISAS:
        assert same_bits(kernel(isa), expected), f"{isa} differs from generic"
    return expected


def test_this_machine_runs_more_than_the_generic_kernels_or_says_so() -> None:
    assert kernels.isas()[-1] == "generic"
    assert set(kernels.isas()) <= {"generic", "avx2", "avx512", "avx512_vnni", "avx512_bf16"}


def erf_gelu(x: NDArray[np.float64]) -> NDArray[np.float64]:
    # erfc keeps the digits of the negative tail, where 1 + erf cancels.
    return 0.5 * x * np.array([math.erfc(-v / math.sqrt(2)) for v in x.ravel()]).reshape(x.shape)


def tanh_gelu(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS = {
    "none": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "gelu": erf_gelu,
    "gelu_tanh": tanh_gelu,
}


@pytest.mark.parametrize(("approximate", "reference"), [("none", erf_gelu), ("tanh", tanh_gelu)])
def test_gelu_is_within_two_units_in_the_last_place_of_the_larger_of_x_and_the_result(
    approximate: str, reference: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> None:
    x = np.concatenate(
        [np.linspace(-20, 20, 20001), np.geomspace(1e-30, 1, 500), -np.geomspace(1e-30, 1, 500)]
    )
    x = x.astype(np.float32)
    got = generic_and_equal(lambda isa: kernels.gelu(x, approximate=approximate, isa=isa))
    wanted = reference(x.astype(np.float64))
    assert np.all(np.abs(got - wanted) <= 2 * np.finfo(np.float32).eps * np.abs(x) + 1e-37)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_at_the_ends(approximate: str) -> None:
    x = np.array([0.0, -0.0, np.inf, np.nan, 3e38, -1e4, -3e38, -np.inf], np.float32)
    got = generic_and_equal(
        lambda isa: np.nan_to_num(kernels.gelu(x, approximate=approximate, isa=isa), nan=-7.0)
    )
    assert list(got[:5]) == [0.0, 0.0, np.finfo(np.float32).max, -7.0, np.float32(3e38)]
    assert np.all(np.abs(got[5:]) < 1e-30)


@pytest.mark.parametrize("size", TAILS)
def test_activation_tails(size: int) -> None:
    x = normal(size, size)
    got = generic_and_equal(lambda isa: kernels.gelu(x, isa=isa))
    np.testing.assert_allclose(got, erf_gelu(x.astype(np.float64)), atol=1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_linear_with_bias_and_activation(activation: str) -> None:
    x, w, b = normal(1, 13, 100) / 4, normal(2, 100, 70) / 4, normal(3, 70)
    got = generic_and_equal(lambda isa: kernels.linear(x, w, b, activation=activation, isa=isa))
    wanted = ACTIVATIONS[activation](x.astype(np.float64) @ w + b)
    np.testing.assert_allclose(got, wanted, atol=5e-6)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(TAILS),
    st.sampled_from(DEPTHS),
    st.sampled_from(TAILS),
    st.integers(1, 3),
)
def test_linear_at_all_tails_and_threads(rows: int, depth: int, columns: int, threads: int) -> None:
    x, w = normal(rows, rows, depth), normal(columns, depth, columns)
    got = generic_and_equal(lambda isa: kernels.linear(x, w, num_threads=threads, isa=isa))
    bound = np.abs(x.astype(np.float64)) @ np.abs(w) * depth * 2.0**-24  # of a chain of `depth` roundings
    assert np.all(np.abs(got - x.astype(np.float64) @ w) <= bound)


def test_linear_within_a_block_is_one_chain_of_fused_multiply_adds() -> None:
    # 1 + 2^-25 - 1: a chain rounds the middle term away; it would survive in any other order.
    x = np.ones((1, 3), np.float32)
    w = np.array([[1.0], [2.0**-25], [-1.0]], np.float32)
    assert generic_and_equal(lambda isa: kernels.linear(x, w, isa=isa)).item() == 0.0
    # fma rounds once: (1 + 2^-12)^2 - (1 + 2^-11) = 2^-24 exactly; a rounded product would give 0.
    x = np.array([[-(1 + 2.0**-11), 1 + 2.0**-12]], np.float32)
    w = np.array([[1.0], [1 + 2.0**-12]], np.float32)
    assert generic_and_equal(lambda isa: kernels.linear(x, w, isa=isa)).item() == 2.0**-24


@pytest.mark.parametrize(
    "exponents", [(-140, -100), (-30, 30), (90, 127)], ids=["subnormal", "middle", "overflow"]
)
def test_the_generic_fma_rounds_as_the_instruction_does(exponents: tuple[int, int]) -> None:
    if not FAST_ISAS:
        pytest.skip("needs a processor with fma to compare with")
    rng = np.random.default_rng(0)
    x = np.ldexp(rng.standard_normal((50, 40)), rng.integers(*exponents, (50, 40)) // 2).astype(np.float32)
    w = np.ldexp(rng.standard_normal((40, 70)), rng.integers(*exponents, (40, 70)) // 2).astype(np.float32)
    got = [np.nan_to_num(kernels.linear(x, w, isa=isa), nan=0.5) for isa in kernels.isas()]
    assert all(same_bits(result, got[0]) for result in got)


@pytest.mark.parametrize("rows", TAILS)
def test_a_row_has_the_same_bits_alone(rows: int) -> None:
    x, w = normal(5, rows, 130), normal(6, 130, 70)
    together = kernels.linear(x, w)
    for row in {0, rows // 2, rows - 1}:
        assert same_bits(kernels.linear(x[row : row + 1], w), together[row : row + 1])


@pytest.mark.parametrize("columns", [*TAILS, 312, 768])
@pytest.mark.parametrize("with_residual", [False, True])
def test_layer_norm(columns: int, with_residual: bool) -> None:
    x, scale, shift = 3 * normal(1, 4, columns) + 1, normal(2, columns), normal(3, columns)
    residual = normal(4, 4, columns) if with_residual else None
    got = generic_and_equal(
        lambda isa: kernels.layer_norm(x, scale, shift, eps=1e-5, residual=residual, isa=isa)
    )
    v = x.astype(np.float64) + (0 if residual is None else residual)
    wanted = (v - v.mean(-1, keepdims=True)) / np.sqrt(v.var(-1, keepdims=True) + 1e-5) * scale + shift
    np.testing.assert_allclose(got, wanted, atol=2e-4 if columns == 2 else 5e-6)


def test_layer_norm_of_a_large_mean_does_not_cancel() -> None:
    x = normal(1, 3, 768) + 1000
    got = kernels.layer_norm(x, np.ones(768), np.zeros(768))
    v = x.astype(np.float64)
    np.testing.assert_allclose(got, (v - v.mean(-1, keepdims=True)) / v.std(-1, keepdims=True), atol=2e-4)


def attention_reference(q: Array, k: Array, v: Array) -> NDArray[np.float64]:
    scores = np.einsum("qhd,khd->hqk", q.astype(np.float64), k) / math.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("hqk,khd->qhd", weights / weights.sum(-1, keepdims=True), v)


@pytest.mark.parametrize("head_size", [1, 7, 26, 32, 64, 100, 128, 256])
@pytest.mark.parametrize("keys", [*TAILS, 512])
def test_attention(head_size: int, keys: int) -> None:
    queries = min(keys, 13)
    q, k, v = (normal(i, rows, 2, head_size) for i, rows in enumerate([queries, keys, keys]))
    got = generic_and_equal(lambda isa: kernels.attention(q, k, v, isa=isa))
    np.testing.assert_allclose(got, attention_reference(q, k, v), atol=3e-6)


def test_attention_with_scores_far_apart_and_far_below_zero() -> None:
    q, k, v = 30 * normal(1, 7, 1, 64), 30 * normal(2, 40, 1, 64), normal(3, 40, 1, 64)
    got = generic_and_equal(lambda isa: kernels.attention(q, k, v, isa=isa))
    np.testing.assert_allclose(got, attention_reference(q, k, v), atol=1e-4)


def test_a_query_has_the_same_bits_alone() -> None:
    q, k, v = normal(1, 50, 3, 26), normal(2, 50, 3, 26), normal(3, 50, 3, 26)
    together = kernels.attention(q, k, v)
    for query in (0, 5, 6, 49):
        assert same_bits(kernels.attention(q[query : query + 1], k, v), together[query : query + 1])


def test_wrong_shapes_and_names_are_errors() -> None:
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(InputError, match=r"weight must have shape \[3, any\]"):
        kernels.linear(x, np.zeros((4, 5)))
    with pytest.raises(InputError, match=r"bias must have shape \[5\]"):
        kernels.linear(x, np.zeros((3, 5)), np.zeros(4))
    with pytest.raises(InputError, match="num_threads must be at least 1"):
        kernels.linear(x, np.zeros((3, 5)), num_threads=0)
    with pytest.raises(InputError, match="activation must be"):
        kernels.linear(x, np.zeros((3, 5)), activation="swish")
    with pytest.raises(InputError, match="approximate must be"):
        kernels.gelu(x, approximate="erf")
    with pytest.raises(InputError, match="choose one of"):
        kernels.gelu(x, isa="mmx")
    with pytest.raises(InputError, match="k must not be empty"):
        kernels.attention(np.zeros((1, 1, 4)), np.zeros((0, 1, 4)), np.zeros((0, 1, 4)))
    with pytest.raises(InputError, match=r"residual must have shape \[2, 3\]"):
        kernels.layer_norm(x, np.ones(3), np.zeros(3), residual=np.zeros((1, 3)))
    assert kernels.linear(np.zeros((0, 3)), np.zeros((3, 5))).shape == (0, 5)


def test_the_peak_of_a_precision() -> None:
    peak = kernels.peak("fp32", 1)
    assert peak is not None and peak > 1e6
    for wrong in (lambda: kernels.peak("fp12"), lambda: kernels.peak(num_threads=0)):
        with pytest.raises(InputError):
            wrong()
