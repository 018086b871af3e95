"""C++ engine and kernels; use albert_runtime.Predictor and albert_runtime.kernels."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

_Float = NDArray[np.float32]
_Int = NDArray[np.int32]

def isas() -> list[str]: ...
def default_isa() -> str: ...
def available_cpus() -> int: ...
def probe(precision: str, num_threads: int, *, isa: str | None = None) -> float: ...
def activate(x: _Float, activation: str, *, isa: str | None = None) -> _Float: ...
def layer_norm(
    x: _Float,
    scale: _Float,
    shift: _Float,
    *,
    epsilon: float,
    bias: _Float | None = None,
    residual: _Float | None = None,
    isa: str | None = None,
) -> _Float: ...
def linear(
    x: _Float,
    weight: _Float,
    bias: _Float | None = None,
    *,
    activation: str = "none",
    num_threads: int = 1,
    precision: str = "fp32",
    isa: str | None = None,
) -> _Float: ...
def attention(
    q: _Float, k: _Float, v: _Float, *, precision: str = "fp32", isa: str | None = None
) -> _Float: ...

class Engine:
    def __init__(
        self,
        weights_path: str | bytes,
        tensors: Mapping[str, tuple[str, int, Sequence[int]]],
        *,
        isa: str,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        num_hidden_layers: int,
        num_hidden_groups: int,
        inner_group_num: int,
        num_attention_heads: int,
        intermediate_size: int,
        hidden_act: str,
        max_position_embeddings: int,
        type_vocab_size: int,
        layer_norm_eps: float,
        padding_idx: int,
        add_pooling_layer: bool,
        token_classifier: str = "",
        pooled_classifier: str = "",
        vocabulary_head: bool = False,
        decoder_norm_eps: float = 1e-5,
        precision: str = "fp32",
        cache_path: str = "",
        cache_key: bytes = b"",
        before_packing: Callable[[], None] | None = None,
    ) -> None: ...
    def run(
        self,
        input_ids: _Int,
        positions: _Int,
        token_type_ids: _Int,
        row_starts: _Int,
        masked_first: _Int,
        hidden: _Float | None,
        pooled: _Float | None,
        num_threads: int,
        *,
        hidden_states: _Float | None = None,
        token_logits: _Float | None = None,
        pooled_logits: _Float | None = None,
        scores: _Float | None = None,
        score_tokens: _Int | None = None,
        score_slots: _Int | None = None,
    ) -> None: ...
    @property
    def isa(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def packed_bytes(self) -> int: ...
    @property
    def found_packed(self) -> bool: ...
    @property
    def packed_file(self) -> str: ...
    @property
    def cache_problem(self) -> str: ...
