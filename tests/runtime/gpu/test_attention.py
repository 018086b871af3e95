"""Attention over packed tokens, against float64."""

import math

import numpy as np
import pytest
import torch

from albert_runtime.gpu.kernels.attention import QUERIES, Rows, attention

from .conftest import FLOATS, ROUNDING

HEADS = 2
LENGTHS, MASKED = (1, 63, 64, 65, 2, 130), (0, 1, 0, 1, 1, 0)
SIZES = (1, 8, 16, 26, 32, 64, 80, 96, 128, 256)


def make_rows(device, lengths, masked):
    starts = np.cumsum([0, *lengths])
    blocks = [(row, first) for row, length in enumerate(lengths) for first in range(0, length, QUERIES)]
    arrays = (starts, masked, [len(lengths)], blocks, [len(blocks)])
    return Rows(*(torch.tensor(np.array(values), dtype=torch.int32, device=device) for values in arrays))


def reference(q, k, v, rows):
    """[N, HEADS, D] float64, one row and one head at a time."""
    out = torch.empty_like(q)
    starts, masked = rows.starts.tolist(), rows.masked_first.tolist()
    for first, end, skip in zip(starts, starts[1:], masked, strict=False):
        scores = torch.einsum("qhd,khd->hqk", q[first:end], k[first + skip : end]) / math.sqrt(q.shape[2])
        out[first:end] = torch.einsum("hqk,khd->qhd", scores.softmax(2), v[first + skip : end])
    return out


def run(qkv, rows, hidden):
    out = torch.empty(len(qkv), hidden, dtype=qkv.dtype, device=qkv.device)
    attention(qkv[:, :hidden], qkv[:, hidden : 2 * hidden], qkv[:, 2 * hidden :], out, HEADS, rows)
    return out


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_against_float64(device, generator, dtype, size):
    rows, hidden = make_rows(device, LENGTHS, MASKED), HEADS * size
    qkv = (torch.randn(sum(LENGTHS), 3 * hidden, generator=generator) * 1.5).to(dtype).to(device)
    found = run(qkv, rows, hidden).double().cpu().reshape(-1, HEADS, size)
    q, k, v = (part.double().cpu().reshape(-1, HEADS, size) for part in qkv.split(hidden, 1))
    expected = reference(q, k, v, rows)
    # Weights are rounded to the type too, and add up to 1.
    assert (found - expected).abs().max() <= 2 * ROUNDING[dtype] * v.abs().max() + 1e-5


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_first_queries_have_the_bits_of_all(device, generator, dtype):
    rows, hidden = make_rows(device, LENGTHS, MASKED), HEADS * 20
    qkv = torch.randn(sum(LENGTHS), 3 * hidden, generator=generator).to(dtype).to(device)
    starts = rows.starts[:-1].long()
    queries = qkv[starts, :hidden].contiguous()
    out = torch.empty_like(queries)
    keys, values = qkv[:, hidden : 2 * hidden], qkv[:, 2 * hidden :]
    attention(queries, keys, values, out, HEADS, rows, first_queries_only=True)
    assert torch.equal(out, run(qkv, rows, hidden)[starts])


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_a_row_has_the_same_bits_in_any_batch(device, generator, dtype):
    hidden = HEADS * 26
    qkv = torch.randn(sum(LENGTHS), 3 * hidden, generator=generator).to(dtype).to(device)
    whole = run(qkv, make_rows(device, LENGTHS, MASKED), hidden)
    for row, (length, masked) in enumerate(zip(LENGTHS, MASKED, strict=True)):
        first = sum(LENGTHS[:row])
        alone = run(qkv[first : first + length], make_rows(device, [length], [masked]), hidden)
        assert torch.equal(alone, whole[first : first + length])


def test_large_scores(device):
    """exp overflows unless the greatest score is subtracted first."""
    qkv = torch.full((3, 6 * 4), 100.0, device=device)
    qkv[1] = -100
    found = run(qkv, make_rows(device, [3], [0]), 8)
    assert (found[[0, 2]] == 100).all() and (found[1] == -100).all()
