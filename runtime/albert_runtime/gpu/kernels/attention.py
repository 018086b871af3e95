"""softmax(Q K^T / sqrt(D)) V of every row of a batch and every head, over packed tokens.

The keys of a row are visited in blocks from its first one on, each time in the same order, so the result of a
query depends on its own row alone. Scores are never stored: sums and the greatest score so far are corrected
from block to block (FlashAttention, https://arxiv.org/abs/2205.14135).
"""

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from .launch import INTERPRETED, launch, power_of_two


@dataclass(frozen=True, slots=True)
class _Tile:
    queries: int
    keys: int
    warps: int
    stages: int


# How many queries make one block of a row, in every tile.
QUERIES = 64
# By the columns of a head, rounded up to a power of two: what fits registers and shared memory.
_TILES_16 = {64: _Tile(QUERIES, 64, 4, 3), 128: _Tile(QUERIES, 64, 4, 3), 256: _Tile(QUERIES, 32, 8, 2)}
_TILES_32 = {64: _Tile(QUERIES, 32, 8, 2), 128: _Tile(QUERIES, 32, 8, 2), 256: _Tile(QUERIES, 16, 8, 1)}


def attention(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    out: torch.Tensor,
    heads: int,
    rows: "Rows",
    *,
    first_queries_only: bool = False,
    tf32: bool = False,
) -> None:
    """Attention of the batch's queries to the keys of their own rows.

    Args:
        queries: [N, H] by packed token, or with ``first_queries_only`` [B, H], one for each row. Tensors may
            be columns of a wider one.
        keys: [N, H].
        values: [N, H].
        out: As ``queries``.
        heads: Heads that H is cut into.
        rows: Where the rows are, and their blocks of queries.
        first_queries_only: Compute the first token's query of each row only.
        tf32: Whether float32 products are rounded to TensorFloat-32.
    """
    size = queries.shape[1] // heads
    block = power_of_two(size, 16)
    tiles = _TILES_32 if queries.dtype == torch.float32 else _TILES_16
    tile = tiles[max(block, min(tiles))]
    launch(
        attention_kernel,
        (rows.masked_first.shape[0] if first_queries_only else rows.blocks.shape[0], heads),
        *(queries, keys, values, out, rows.starts, rows.masked_first, rows.blocks),
        rows.count if first_queries_only else rows.block_count,
        QUERY_STRIDE=queries.stride(0),
        KEY_STRIDE=keys.stride(0),
        OUT_STRIDE=out.stride(0),
        SIZE=size,
        # exp(x) = exp2(x log2 e)
        SCALE=math.log2(math.e) / math.sqrt(size),
        FIRST_ONLY=first_queries_only,
        PRODUCTS="tf32" if tf32 else "ieee",
        WIDEN=INTERPRETED and queries.dtype == torch.bfloat16,
        QUERIES=tile.queries,
        KEYS=tile.keys,
        BLOCK=block,
        warps=tile.warps,
        stages=tile.stages,
    )


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a batch, on the GPU, all int32.

    Attributes:
        starts: [B + 1]; row b is tokens ``starts[b]`` to ``starts[b + 1]``.
        masked_first: [B]; 1 where no token attends to the row's first one.
        count: [1]; rows in use, of the B there is room for.
        blocks: [Q, 2]; (row, first query within it) of every ``QUERIES`` queries of a row.
        block_count: [1]; blocks in use.
    """

    starts: torch.Tensor
    masked_first: torch.Tensor
    count: torch.Tensor
    blocks: torch.Tensor
    block_count: torch.Tensor


@triton.jit
def attention_kernel(
    query_start,
    key_start,
    value_start,
    out_start,
    starts,
    masked_first,
    blocks,
    count_start,
    QUERY_STRIDE: tl.constexpr,
    KEY_STRIDE: tl.constexpr,
    OUT_STRIDE: tl.constexpr,
    SIZE: tl.constexpr,
    SCALE: tl.constexpr,
    FIRST_ONLY: tl.constexpr,
    PRODUCTS: tl.constexpr,
    WIDEN: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One block of queries of one head. Reference: softmax(q @ k.T * scale) @ v, in float32."""
    item = tl.program_id(0)
    head = tl.program_id(1)
    if item >= tl.load(count_start):
        return
    if FIRST_ONLY:
        row = item
        first_query = 0
    else:
        row = tl.load(blocks + 2 * item)
        first_query = tl.load(blocks + 2 * item + 1)
    first = tl.load(starts + row)
    end = tl.load(starts + row + 1)
    first_key = first + tl.load(masked_first + row)
    if FIRST_ONLY:
        # The row's own place in the compact queries; the other places of the block repeat it and are dropped.
        query = item + tl.zeros((QUERIES,), tl.int32)
        inside = tl.arange(0, QUERIES) < 1
    else:
        query = first + first_query + tl.arange(0, QUERIES)
        inside = query < end
        query = tl.minimum(query, end - 1)

    column = tl.arange(0, BLOCK)
    in_head = column < SIZE
    key = tl.arange(0, KEYS)
    at = query.to(tl.int64)[:, None] * QUERY_STRIDE + head * SIZE + column[None, :]
    q = tl.load(query_start + at, mask=in_head[None, :], other=0)
    k_at = key_start + first_key.to(tl.int64) * KEY_STRIDE + head * SIZE
    v_at = value_start + first_key.to(tl.int64) * KEY_STRIDE + head * SIZE
    if WIDEN:
        q = q.to(tl.float32)
    greatest = tl.full((QUERIES,), float("-inf"), tl.float32)
    total = tl.zeros((QUERIES,), tl.float32)
    sums = tl.zeros((QUERIES, BLOCK), tl.float32)
    count = end - first_key
    for start in range(0, count, KEYS):
        in_row = key < count - start
        offset = (start + key).to(tl.int64) * KEY_STRIDE
        k = tl.load(
            k_at + offset[None, :] + column[:, None], mask=in_row[None, :] & in_head[:, None], other=0
        )
        v = tl.load(
            v_at + offset[:, None] + column[None, :], mask=in_row[:, None] & in_head[None, :], other=0
        )
        if WIDEN:
            k, v = k.to(tl.float32), v.to(tl.float32)
        scores = tl.dot(q, k, input_precision=PRODUCTS) * SCALE
        scores = tl.where(in_row[None, :], scores, float("-inf"))
        now = tl.maximum(greatest, tl.max(scores, 1))
        weights = tl.exp2(scores - now[:, None])
        correction = tl.exp2(greatest - now)
        total = total * correction + tl.sum(weights, 1)
        narrow = weights.to(value_start.dtype.element_ty)
        if WIDEN:
            narrow = narrow.to(tl.float32)
        sums = tl.dot(narrow, v, sums * correction[:, None], input_precision=PRODUCTS)
        greatest = now
    result = sums / total[:, None]
    at = query.to(tl.int64)[:, None] * OUT_STRIDE + head * SIZE + column[None, :]
    tl.store(out_start + at, result.to(out_start.dtype.element_ty), mask=inside[:, None] & in_head[None, :])
