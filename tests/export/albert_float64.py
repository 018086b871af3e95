"""ALBERT with every head in float64 numpy, row by row: what the tests compare other implementations with."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from albert_runtime.artifact import tasks
from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.artifact.tasks import Head

from ..native.model import ACTIVATIONS, Model, Tokens, reference

Float64 = NDArray[np.float64]


def answers(
    config: AlbertConfig, head: Head, tensors: Mapping[str, np.ndarray], inputs: Mapping[str, np.ndarray]
) -> dict[str, Float64]:
    """The outputs of ``head`` for padded ``inputs`` [B, T] or [B, C, T]; anything at masked positions."""
    shape = inputs["input_ids"].shape
    flat = {name: value.reshape(-1, shape[-1]) for name, value in inputs.items()}
    hidden, pooled = _encoder(config, tensors, flat)
    weights = {name: value.astype(np.float64) for name, value in tensors.items()}

    def linear(x: Float64, name: str) -> Float64:
        return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def scores() -> Float64:
        x = ACTIVATIONS[config.hidden_act](linear(hidden, "predictions.dense"))
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + head.decoder_norm_eps)
        x = x * weights["predictions.layer_norm.weight"] + weights["predictions.layer_norm.bias"]
        words = weights[
            "embeddings.word_embeddings.weight" if head.tied_decoder else "predictions.decoder.weight"
        ]
        return x @ words.T + weights["predictions.bias"]

    def columns(x: Float64) -> Float64:
        return linear(x, head.classifier)

    results: dict[str, Callable[[], Float64]] = {
        "last_hidden_state": lambda: hidden,
        "pooled_output": lambda: pooled,
        "prediction_scores": scores,
        "sop_logits": lambda: columns(pooled),
        "start_logits": lambda: columns(hidden)[..., 0],
        "end_logits": lambda: columns(hidden)[..., 1],
        "logits": lambda: columns(pooled if head.reads_pooled else hidden),
    }
    outputs = {name: results[name]() for name in head.outputs(config)}
    if head.task == tasks.MULTIPLE_CHOICE:  # from [B * C, 1]
        outputs["logits"] = outputs["logits"].reshape(shape[:2])
    return outputs


def _encoder(
    config: AlbertConfig, tensors: Mapping[str, np.ndarray], inputs: Mapping[str, np.ndarray]
) -> tuple[Float64, Float64]:
    kept = inputs["attention_mask"].astype(bool)
    masked_first = ~kept[:, 0]
    kept[:, 0] = True  # computed all the same, as the pooler reads it
    lengths = kept.sum(1)
    tokens = Tokens(
        inputs["input_ids"][kept].astype(np.int32),
        np.nonzero(kept)[1].astype(np.int32),
        inputs["token_type_ids"][kept].astype(np.int32),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        masked_first.astype(np.int32),
    )
    return reference(Model(config, Path(), {}, dict(tensors)), tokens)
