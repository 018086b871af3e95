"""What works row by row: LayerNorm, embeddings, copies."""

import pytest
import torch
from torch.nn.functional import layer_norm as reference

from albert_runtime.gpu.kernels.embed import embed
from albert_runtime.gpu.kernels.layer_norm import layer_norm
from albert_runtime.gpu.kernels.rows import gather_rows, scatter_rows

from .conftest import FLOATS, ROUNDING

EPSILON = 1e-12


def ints(device, *values):
    return torch.tensor(values, dtype=torch.int32, device=device)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("columns", [1, 2, 31, 64, 312, 768])
def test_layer_norm(device, generator, dtype, columns):
    x = (torch.randn(7, columns, generator=generator) * 3 + 5).to(dtype).to(device)
    scale, shift = (torch.randn(columns, generator=generator).to(device) for _ in range(2))
    out = torch.empty_like(x)
    layer_norm(x, scale, shift, EPSILON, out, ints(device, 7))
    expected = reference(x.double(), (columns,), scale.double(), shift.double(), EPSILON)
    # Cancellation in x - mean: float32 has 5 to within 2^-22.
    tolerance = expected.abs() * ROUNDING[dtype] + scale.abs().double() * 2**-18 + 1e-6
    if columns > 1:
        assert ((out.double() - expected).abs() <= tolerance).all()
    else:
        assert torch.equal(out, shift.to(dtype).expand(7, 1))


def test_layer_norm_gives_integers_too(device, generator):
    x = torch.randn(5, 50, generator=generator).to(device)
    ones, zeros = torch.ones(50, device=device), torch.zeros(50, device=device)
    out, integers = torch.empty_like(x), torch.full((5, 60), 9, dtype=torch.int8, device=device)
    row_scale = torch.empty(5, device=device)
    layer_norm(x, ones, zeros, EPSILON, out, ints(device, 4), (integers[:, :50], row_scale))
    found = integers[:4, :50].double() * row_scale[:4, None].double()
    assert ((found - out[:4].double()).abs() <= row_scale[:4, None] * 0.5001).all()
    assert (integers[:4, :50].abs().amax(1) == 127).all()
    assert (integers[4:] == 9).all() and (integers[:, 50:] == 9).all()


@pytest.mark.parametrize("padding_idx", [None, 0, 3])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_embeddings(device, generator, dtype, padding_idx):
    words, types, places = (
        torch.randn(rows, 24, generator=generator).to(dtype).to(device) for rows in (9, 2, 6)
    )
    scale, shift = (torch.randn(24, generator=generator).to(device) for _ in range(2))
    ids, kinds, at = ints(device, 3, 0, 8, 3), ints(device, 0, 1, 1, 0), ints(device, 0, 5, 2, 1)
    out = torch.empty(4, 24, dtype=dtype, device=device)
    bad = ints(device, 1000)
    embed(
        ids,
        kinds,
        at,
        (words, types, places),
        (scale, shift),
        EPSILON,
        padding_idx,
        out,
        bad,
        ints(device, 4),
    )
    word = words[ids.long()].double()
    if padding_idx is not None:
        word[ids == padding_idx] = 0
    x = word + types[kinds.long()].double() + places[at.long()].double()
    expected = reference(x, (24,), scale.double(), shift.double(), EPSILON)
    assert ((out.double() - expected).abs() <= expected.abs() * ROUNDING[dtype] + 1e-5).all()
    assert bad.tolist() == [1000]


@pytest.mark.parametrize("column", [0, 1, 2])
@pytest.mark.parametrize("value", [-1, -(2**31), 5, 2**31 - 1])
def test_ids_out_of_range_are_found_and_read_nothing(device, column, value):
    tables = tuple(torch.zeros(5, 8, device=device) for _ in range(3))
    arrays = [ints(device, 1, 2, 3, 4) for _ in range(3)]
    arrays[column][2] = value
    arrays[column][3] = value
    ones, bad = torch.ones(8, device=device), ints(device, 1000)
    out = torch.empty(4, 8, device=device)
    embed(*arrays, tables, (ones, ones), EPSILON, None, out, bad, ints(device, 4))
    assert bad.tolist() == [2]
    assert (out == 1).all()


@pytest.mark.parametrize("columns", [1, 20, 33])
def test_gather_and_scatter(device, generator, columns):
    x = torch.randn(6, columns, generator=generator).to(torch.bfloat16).to(device)
    out = torch.full((5, columns), 7.0, device=device)
    gather_rows(x, ints(device, 5, 0, 0, 3, 1), out, ints(device, 4))
    assert torch.equal(out[:4], x[[5, 0, 0, 3]].float()) and (out[4] == 7).all()
    wide = torch.zeros(9, 3 * columns, device=device)
    scatter_rows(x, ints(device, 8, -1, 2, 0, 1, 1), wide[:, columns : 2 * columns], ints(device, 4))
    expected = torch.zeros(9, columns, device=device)
    expected[[8, 2, 0]] = x[[0, 2, 3]].float()
    assert torch.equal(wide[:, columns : 2 * columns], expected)
    assert not wide[:, :columns].any() and not wide[:, 2 * columns :].any()
