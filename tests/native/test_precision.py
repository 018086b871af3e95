"""bf16 and int8: products against the same rounding in float64, and what the engine promises in each."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from albert_runtime import InputError, _native, kernels

from .model import (
    Model,
    config,
    make_model,
    product,
    reference,
    row,
    run,
    run_pooled,
    to_bf16,
    tokens,
)
from .test_kernels import TAILS, generic_and_equal, normal, same_bits

REDUCED = ["bf16", "int8"]
# Around the values in a word (2, 4) and the words in a block of depth (256, so 512 and 1024 values).
DEPTHS = [1, 2, 3, 4, 5, 63, 130, 511, 512, 513, 1023, 1024, 1025]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(TAILS), st.sampled_from(DEPTHS), st.sampled_from(TAILS), st.integers(1, 3))
def test_int8_products_are_exact_at_all_tails_and_threads(
    rows: int, depth: int, columns: int, threads: int
) -> None:
    x, w = normal(rows, rows, depth), normal(columns, depth, columns)
    got = generic_and_equal(lambda isa: kernels.linear(x, w, precision="int8", num_threads=threads, isa=isa))
    wanted = product(x, w, "int8")
    # Nothing but the three roundings of integer * scale * scale.
    assert np.all(np.abs(got - wanted) <= 3 * 2.0**-24 * np.abs(wanted) + 1e-37)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(TAILS), st.sampled_from(DEPTHS), st.sampled_from(TAILS), st.integers(1, 3))
def test_bf16_products_at_all_tails_and_threads(rows: int, depth: int, columns: int, threads: int) -> None:
    x, w = normal(rows, rows, depth), normal(columns, depth, columns)
    got = generic_and_equal(lambda isa: kernels.linear(x, w, precision="bf16", num_threads=threads, isa=isa))
    bound = np.abs(x.astype(np.float64)) @ np.abs(w) * depth * 2.0**-24
    assert np.all(np.abs(got - product(x, w, "bf16")) <= bound + 1e-37)


@pytest.mark.parametrize("middle", [-75, -70, -66, -64, -63, -62, -60, 0, 55])
def test_bf16_sums_at_the_ends_of_the_range(middle: int) -> None:
    # Where the instruction takes numbers for zero that floats could still hold, every ISA must.
    rng = np.random.default_rng(middle + 100)
    exponents = rng.integers(middle - 5, middle + 5, (64, 40))
    x = np.ldexp(rng.standard_normal((64, 40)), exponents).astype(np.float32)
    w = np.ldexp(rng.standard_normal((40, 64)), exponents.T).astype(np.float32)
    x[:, 3], w[5] = 2.0**-130, -(2.0**-128)  # no normal numbers themselves
    got = generic_and_equal(lambda isa: kernels.linear(x, w, precision="bf16", isa=isa))
    np.testing.assert_allclose(got, product(x, w, "bf16"), rtol=1e-3, atol=40 * 2.0**-126)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("product", "wanted"),
    [
        (-(2.0**-150), 0.0),  # 2^-126 - 2^-150 has 24 digits, too small to be normal: zero, not 2^-126
        (-(2.0**-151), 2.0**-126),  # half a digit more rounds to a normal number first
        (-(2.0**-149), 0.0),
        (-(2.0**-130), 0.0),
        (0.0, 2.0**-126),
        (2.0**-150, 2.0**-126),
    ],
)
def test_bf16_sums_that_round_to_the_least_normal_number(product: float, wanted: float, sign: int) -> None:
    # What vdpbf16ps gave on Granite Rapids. One step makes the least normal number, a later one adds the
    # product; the second value of a word is added first.
    for before, at in ((1, 0), (0, 2), (1, 2), (2, 511)):
        x, w = np.zeros((1, 512), np.float32), np.zeros((512, 1), np.float32)
        x[0, before], w[before] = 2.0**-63, sign * 2.0**-63
        x[0, at], w[at] = 2.0**-75, sign * product * 2.0**75
        got = generic_and_equal(lambda isa, x=x, w=w: kernels.linear(x, w, precision="bf16", isa=isa))  # type: ignore[misc]
        assert got.item() == sign * wanted


def test_bf16_sums_of_blocks_are_flushed_too() -> None:
    # 2^-126 and -1.5 * 2^-126 in blocks of their own: the sum is no normal number.
    x, w = np.zeros((1, 1024), np.float32), np.zeros((1024, 1), np.float32)
    x[0, 0], w[0] = 2.0**-63, 2.0**-63
    x[0, 512], w[512] = -(1.5 * 2.0**-63), 2.0**-63
    assert generic_and_equal(lambda isa: kernels.linear(x, w, precision="bf16", isa=isa)).item() == 0.0


@pytest.mark.parametrize("head_size", [1, 7, 26, 64, 256])
@pytest.mark.parametrize("keys", [*TAILS, 512])
def test_attention_in_bf16(head_size: int, keys: int) -> None:
    queries = min(keys, 13)
    q, k, v = (normal(i, rows, 2, head_size) for i, rows in enumerate([queries, keys, keys]))
    got = generic_and_equal(lambda isa: kernels.attention(q, k, v, precision="bf16", isa=isa))
    scores = np.einsum("qhd,khd->hqk", to_bf16(q), to_bf16(k))
    weights = np.exp((scores - scores.max(-1, keepdims=True)) / np.sqrt(head_size)).astype(np.float32)
    rounded = to_bf16(weights)
    wanted = np.einsum("hqk,khd->qhd", rounded / rounded.sum(-1, keepdims=True), to_bf16(v))
    # A weight at the border of two roundings may fall on the other side: 2^-8 of itself.
    np.testing.assert_allclose(got, wanted, atol=2e-3 + 2.0**-8 * np.abs(v).max() / keys)


def test_attention_has_no_int8() -> None:
    with pytest.raises(InputError, match="attention computes in fp32 or bf16"):
        kernels.attention(*(np.zeros((1, 1, 4)),) * 3, precision="int8")


@pytest.mark.parametrize("sign", [1, -1])
def test_int8_sums_do_not_saturate(sign: int) -> None:
    # 127 * 127 + 127 * 127 and 254 * 127 + ... exceed 16 bits: where pairs saturate this comes out too small.
    x, w = np.full((3, 4096), sign * 5.0, np.float32), np.full((4096, 17), 2.0, np.float32)
    got = generic_and_equal(lambda isa: kernels.linear(x, w, precision="int8", isa=isa))
    np.testing.assert_allclose(got, sign * 4096 * 10.0, rtol=1e-6)


def test_an_outlier_in_one_row_costs_the_others_nothing() -> None:
    x, w = normal(1, 5, 200), normal(2, 200, 30)
    before = kernels.linear(x, w, precision="int8")
    x[2, 7] = 1e6
    after = generic_and_equal(lambda isa: kernels.linear(x, w, precision="int8", isa=isa))
    others = [0, 1, 3, 4]
    assert same_bits(after[others], before[others])


def test_rows_and_columns_of_zeros_and_of_tiny_numbers() -> None:
    x, w = normal(1, 4, 70), normal(2, 70, 20)
    x[0], x[1], w[:, 3], w[:, 4] = 0, 1e-38, 0, 1e-39
    bias = normal(3, 20)
    for precision in REDUCED:
        got = generic_and_equal(
            lambda isa, p=precision: kernels.linear(x, w, bias, precision=p, isa=isa)  # type: ignore[misc]
        )
        assert np.isfinite(got).all()
        np.testing.assert_allclose(got[:2], np.broadcast_to(bias, (2, 20)), atol=1e-30)
        np.testing.assert_allclose(got[:, 3:5], np.broadcast_to(bias[3:5], (4, 2)), atol=1e-30)


@pytest.mark.parametrize("precision", REDUCED)
def test_what_is_no_number_stays_in_its_row(precision: str) -> None:
    x, w = normal(1, 3, 40), normal(2, 40, 20)
    alone = kernels.linear(x[:1], w, precision=precision)
    x[1, 5], x[2, 6] = np.nan, np.inf
    for isa in kernels.isas():
        got = kernels.linear(x, w, precision=precision, isa=isa)
        assert same_bits(got[:1], alone)
        assert np.isnan(got[1]).all()
        assert not np.isfinite(got[2]).any()


def test_unknown_precision() -> None:
    with pytest.raises(InputError, match="precision must be fp32, bf16 or int8, not 'fp8'"):
        kernels.linear(np.zeros((1, 1)), np.zeros((1, 1)), precision="fp8")


CONFIGS: dict[str, dict[str, Any]] = {
    "head 26, erf, odd sizes": {
        "hidden_size": 78,
        "num_attention_heads": 3,
        "intermediate_size": 131,
        "hidden_act": "gelu",
    },
    "odd sizes": {"hidden_size": 39, "num_attention_heads": 3, "intermediate_size": 77},
    "head 64, relu": {"hidden_size": 128, "hidden_act": "relu"},
    "head 32, tanh": {},
}


@pytest.mark.parametrize("precision", REDUCED)
@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS.keys())
def test_the_engine_rounds_what_it_multiplies_and_nothing_else(
    tmp_path: Path, changes: dict[str, Any], precision: str
) -> None:
    # One layer: from the second on a value that fell on the other side of a rounding draws others along.
    model = make_model(tmp_path, config(num_hidden_layers=1, **changes))
    h, batch = model.config.hidden_size, tokens([11, 7, 1, 40])
    hidden, _ = run(model.engine(precision=precision), h, batch)
    wanted, exact = reference(model, batch, precision)[0], reference(model, batch)[0]
    off, rounding = np.sqrt(np.mean((hidden - wanted) ** 2)), np.sqrt(np.mean((exact - wanted) ** 2))
    # A flip is a whole step, 3.5 times the noise of rounding: one in a hundred would show as 0.35.
    assert off < 0.35 * rounding
    assert rounding < 0.05


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return make_model(tmp_path_factory.mktemp("model"), config())


@pytest.mark.parametrize("precision", REDUCED)
def test_every_isa_gives_the_same_bits(model: Model, precision: str) -> None:
    batch = tokens([30, 5, 77])
    results = [run(model.engine(isa, precision=precision), 64, batch, 2) for isa in _native.isas()]
    for hidden, pooled in results:
        assert same_bits(hidden, results[0][0])
        assert same_bits(pooled, results[0][1])


@pytest.mark.parametrize("precision", REDUCED)
@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 90), min_size=1, max_size=10), threads=st.integers(1, 3))
def test_a_row_has_the_same_bits_in_any_batch_and_on_any_threads(
    model: Model, precision: str, lengths: list[int], threads: int
) -> None:
    engine, batch = model.engine(precision=precision), tokens(lengths)
    hidden, pooled = run(engine, 64, batch, threads)
    assert same_bits(run_pooled(engine, 64, batch, threads), pooled)
    for i, length in enumerate(lengths):
        alone_hidden, alone_pooled = run(engine, 64, row(batch, i))
        assert same_bits(alone_hidden[0], hidden[i, :length])
        assert same_bits(alone_pooled[0], pooled[i])


@pytest.mark.parametrize("isa", _native.isas())
def test_packed_weights_shrink_by_half_and_to_a_quarter(tmp_path: Path, isa: str) -> None:
    sizes = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
    model = make_model(tmp_path, config(**sizes))
    layer = 4 * 768 * 768 + 2 * 768 * 3072  # values in the matrices of a layer
    full = model.engine(isa).packed_bytes
    for precision, saved in (("bf16", 2), ("int8", 3)):
        assert model.engine(isa, precision=precision).packed_bytes == full - saved * layer


def test_int8_sums_that_could_overflow_are_refused(tmp_path: Path) -> None:
    model = make_model(tmp_path, config(hidden_size=4, intermediate_size=65540))
    with pytest.raises(ValueError, match="int8 sums of 65540 products could overflow; use fp32 or bf16"):
        model.engine(precision="int8")
    model.engine(precision="bf16")


def test_the_probe_counts_operations() -> None:
    for precision in ("fp32", *REDUCED):
        assert _native.probe(precision, 1) > 0
    with pytest.raises(ValueError, match="num_threads must be at least 1"):
        _native.probe("fp32", 0)
