"""Embeddings of packed tokens: LayerNorm((word + token type) + position)."""

import torch
import triton
import triton.language as tl

from .launch import launch
from .layer_norm import normalize
from .row_tile import RowTile, rows_of_tile


def embed(
    input_ids: torch.Tensor,
    token_type_ids: torch.Tensor,
    positions: torch.Tensor,
    tables: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    norm: tuple[torch.Tensor, torch.Tensor],
    epsilon: float,
    padding_idx: int | None,
    out: torch.Tensor,
    first_bad: torch.Tensor,
    count: torch.Tensor,
) -> None:
    """Embed the first ``count`` tokens of int32 [M] to out [M, E].

    Args:
        input_ids: Rows of the first table.
        token_type_ids: Rows of the second table.
        positions: Rows of the third table.
        tables: Word [V, E], token type and position embeddings.
        norm: Scale and shift of the LayerNorm, float32 [E].
        epsilon: Of the LayerNorm.
        padding_idx: The word whose embedding is zeros, or None.
        out: Floats of any type.
        first_bad: int32 [1]; becomes the least token of which an id is outside its table, if that is less.
            Such ids read row 0.
        count: int32 [1], on the GPU.
    """
    words, types, places = tables
    columns = words.shape[1]
    tile = RowTile.of(columns)
    launch(
        embed_kernel,
        tile.grid(out.shape[0]),
        *(input_ids, token_type_ids, positions, words, types, places, *norm, out, first_bad, count),
        WORDS=words.shape[0],
        TYPES=types.shape[0],
        POSITIONS=places.shape[0],
        PADDING=-1 if padding_idx is None else padding_idx,
        COLUMNS=columns,
        EPSILON=epsilon,
        TILE_ROWS=tile.rows,
        TILE_COLUMNS=tile.columns,
        warps=tile.warps,
    )


@triton.jit
def embed_kernel(
    input_ids,
    token_type_ids,
    positions,
    words,
    types,
    places,
    scale_start,
    shift_start,
    out_start,
    first_bad,
    count_start,
    WORDS: tl.constexpr,
    TYPES: tl.constexpr,
    POSITIONS: tl.constexpr,
    PADDING: tl.constexpr,
    COLUMNS: tl.constexpr,
    EPSILON: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLUMNS: tl.constexpr,
):
    """Some tokens of ``embed``."""
    token, there = rows_of_tile(count_start, TILE_ROWS)
    word = tl.load(input_ids + token, mask=there, other=0)
    kind = tl.load(token_type_ids + token, mask=there, other=0)
    place = tl.load(positions + token, mask=there, other=0)
    good = (word >= 0) & (word < WORDS) & (kind >= 0) & (kind < TYPES) & (place >= 0) & (place < POSITIONS)
    tl.atomic_min(first_bad + token * 0, token.to(tl.int32), mask=good == 0)
    word = tl.where(good, word, 0).to(tl.int64)
    kind = tl.where(good, kind, 0).to(tl.int64)
    place = tl.where(good, place, 0).to(tl.int64)
    column = tl.arange(0, TILE_COLUMNS)[None, :]
    in_row = column < COLUMNS
    inside = there & in_row
    x = tl.load(words + word * COLUMNS + column, mask=inside, other=0).to(tl.float32)
    x = tl.where(word == PADDING, 0.0, x)
    x += tl.load(types + kind * COLUMNS + column, mask=inside, other=0).to(tl.float32)
    x += tl.load(places + place * COLUMNS + column, mask=inside, other=0).to(tl.float32)
    scale = tl.load(scale_start + column, mask=in_row, other=0)
    shift = tl.load(shift_start + column, mask=in_row, other=0)
    result = normalize(x, in_row, scale, shift, COLUMNS, EPSILON)
    tl.store(out_start + token * COLUMNS + column, result.to(out_start.dtype.element_ty), mask=inside)
