"""The heads of the engine against float64, and their bits against other batches, passes and requests."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from albert_runtime import _native

from .model import ACTIVATIONS, Model, Tokens, config, make_model, reference, row, tokens

LABELS = 5
Float = NDArray[np.float32]


def with_heads(folder: Path, *, tied: bool, **changes: Any) -> Model:
    """A model with every head: tensors for them are appended to the weight file."""
    model = make_model(folder, config(**changes))
    c = model.config
    h, e, v = c.hidden_size, c.embedding_size, c.vocab_size
    shapes = {
        "classifier.weight": (h, LABELS),
        "classifier.bias": (LABELS,),
        "sop_classifier.classifier.weight": (h, 2),
        "sop_classifier.classifier.bias": (2,),
        "predictions.dense.weight": (h, e),
        "predictions.dense.bias": (e,),
        "predictions.layer_norm.weight": (e,),
        "predictions.layer_norm.bias": (e,),
        "predictions.bias": (v,),
    } | ({} if tied else {"predictions.decoder.weight": (v, e)})
    rng = np.random.default_rng(7)
    with model.path.open("ab") as file:
        for name, shape in shapes.items():
            file.write(b"#")
            model.tensors[name] = ("float32", file.tell(), shape)
            model.values[name] = rng.standard_normal(shape).astype(np.float32) / 4
            file.write(model.values[name].tobytes())
    return model


def engine_with_heads(model: Model, isa: str | None = None) -> _native.Engine:
    return model.engine(
        isa,
        token_classifier="classifier",
        pooled_classifier="sop_classifier.classifier",
        vocabulary_head=True,
        decoder_norm_eps=1e-5,
    )


def run_heads(
    engine: _native.Engine,
    model: Model,
    t: Tokens,
    score_tokens: list[int],
    slots: list[int],
    threads: int = 1,
) -> tuple[Float, Float, Float]:
    rows = len(t.masked_first)
    token_logits = np.zeros((rows, t.width, LABELS), np.float32)
    pooled_logits = np.empty((rows, 2), np.float32)
    scores = np.zeros((len(slots), model.config.vocab_size), np.float32)
    engine.run(
        *(t.input_ids, t.positions, t.token_type_ids, t.row_starts, t.masked_first, None, None, threads),
        token_logits=token_logits,
        pooled_logits=pooled_logits,
        scores=scores,
        score_tokens=np.array(score_tokens, np.int32),
        score_slots=np.array(slots, np.int32),
    )
    return token_logits, pooled_logits, scores


def vocabulary_reference(model: Model, hidden: NDArray[np.float64]) -> NDArray[np.float64]:
    w = {name: value.astype(np.float64) for name, value in model.values.items()}
    x = hidden @ w["predictions.dense.weight"] + w["predictions.dense.bias"]
    x = ACTIVATIONS[model.config.hidden_act](x)
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    x = x * w["predictions.layer_norm.weight"] + w["predictions.layer_norm.bias"]
    decoder = w.get("predictions.decoder.weight", w["embeddings.word_embeddings.weight"])
    return x @ decoder.T + w["predictions.bias"]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("act", ["gelu", "gelu_new", "relu"])
def test_heads(tmp_path: Path, tied: bool, act: str) -> None:
    model = with_heads(tmp_path, tied=tied, hidden_act=act, vocab_size=131)
    batch = tokens([9, 1, 30], vocab_size=131)
    batch = replace(batch, masked_first=np.array([1, 0, 0], np.int32))
    hidden, pooled = reference(model, batch)
    w = {name: value.astype(np.float64) for name, value in model.values.items()}
    seen = hidden.any(-1)
    wanted = np.where(seen[..., None], hidden @ w["classifier.weight"] + w["classifier.bias"], 0)
    chosen = [1, 8, 9, 39, 39]  # packed tokens; the last one twice
    wanted_scores = vocabulary_reference(model, hidden[[0, 0, 1, 2, 2], [1, 8, 0, 29, 29]])
    results = []
    for isa in _native.isas():
        logits, row_logits, scores = run_heads(
            engine_with_heads(model, isa), model, batch, chosen, [4, 0, 2, 1, 3]
        )
        np.testing.assert_allclose(logits, wanted, atol=5e-5)
        sop = pooled @ w["sop_classifier.classifier.weight"] + w["sop_classifier.classifier.bias"]
        np.testing.assert_allclose(row_logits, sop, atol=5e-5)
        np.testing.assert_allclose(scores[[4, 0, 2, 1, 3]], wanted_scores, atol=5e-5)
        results.append((logits, row_logits, scores))
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_a_large_vocabulary_goes_through_in_pieces(tmp_path: Path) -> None:
    model = with_heads(tmp_path, tied=True, vocab_size=40_000, num_hidden_layers=1)
    engine = engine_with_heads(model)
    batch = tokens([100, 60], vocab_size=40_000)
    every = list(range(160))
    _, _, scores = run_heads(engine, model, batch, every, every, threads=2)
    alone = run_heads(engine, model, row(batch, 1), [59], [0])[2]
    assert np.array_equal(alone[0], scores[159])
    hidden, _ = reference(model, batch)
    np.testing.assert_allclose(scores[159], vocabulary_reference(model, hidden[1, 59]), atol=1e-4)


def test_only_what_is_asked_for_is_computed_with_the_same_bits(tmp_path: Path) -> None:
    model = with_heads(tmp_path, tied=True)
    engine, batch = engine_with_heads(model), tokens([20, 3])
    _, together, _ = run_heads(engine, model, batch, [0], [0])
    arrays = (batch.input_ids, batch.positions, batch.token_type_ids, batch.row_starts, batch.masked_first)
    pooled_logits = np.empty((2, 2), np.float32)
    engine.run(*arrays, None, None, 1, pooled_logits=pooled_logits)  # the last layer for first tokens alone
    assert np.array_equal(pooled_logits, together)


def test_wrong_heads_and_arrays_are_refused(tmp_path: Path) -> None:
    model = with_heads(tmp_path, tied=True)
    batch = tokens([4, 3])
    arrays = (batch.input_ids, batch.positions, batch.token_type_ids, batch.row_starts, batch.masked_first)
    one, scores = np.zeros(1, np.int32), np.zeros((1, 50), np.float32)
    engine = engine_with_heads(model)
    states = (model.config.num_hidden_layers + 1, model.config.hidden_size)
    for given, message in [
        ({"token_logits": np.zeros((2, 4, 4), np.float32)}, "token_logits must have shape"),
        ({"pooled_logits": np.zeros((2, 3), np.float32)}, "pooled_logits must have shape"),
        ({"hidden_states": np.zeros((2, 4, *states[:1], 9), np.float32)}, "hidden_states must have shape"),
        (
            {"hidden_states": np.zeros((2, 4, states[0] - 1, states[1]), np.float32)},
            "hidden_states must have sh",
        ),
        ({"hidden_states": np.zeros((2, 3, *states), np.float32)}, "a position lies outside the output"),
        ({"scores": scores}, "must be given together"),
        ({"scores": scores[:, 1:].copy(), "score_tokens": one, "score_slots": one}, "scores must have shape"),
        ({"scores": scores, "score_tokens": one + 7, "score_slots": one}, "ascend within the tokens"),
        ({"scores": scores, "score_tokens": one, "score_slots": one + 1}, "different rows of scores"),
    ]:
        with pytest.raises(ValueError, match=message):
            engine.run(*arrays, None, None, 1, **given)
    two = np.zeros((2, 50), np.float32), np.array([1, 0], np.int32), np.array([0, 1], np.int32)
    with pytest.raises(ValueError, match="ascend within the tokens"):
        engine.run(*arrays, None, None, 1, scores=two[0], score_tokens=two[1], score_slots=two[2])
    with pytest.raises(ValueError, match="no vocabulary head"):
        model.engine().run(*arrays, None, None, 1, scores=scores, score_tokens=one, score_slots=one)
    with pytest.raises(ValueError, match=r"nowhere\.weight is missing"):
        model.engine(token_classifier="nowhere")
    with pytest.raises(ValueError, match="not a matrix"):
        model.engine(pooled_classifier="embeddings.layer_norm")
    with pytest.raises(ValueError, match="needs a pooler"):
        model.engine(pooled_classifier="classifier", add_pooling_layer=False)
