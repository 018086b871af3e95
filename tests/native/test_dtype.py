"""Weights stored in fewer bits: the engine is that of the same values in float32, bit for bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from albert_runtime import _native

from .model import Model, config, make_model, run, tokens


def halves(values: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """Values as a file of ``dtype`` has them."""
    if dtype == "float16":
        return values.astype(np.float16)
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def widened(values: NDArray[Any]) -> NDArray[np.float32]:
    if values.dtype == np.float16:
        return values.astype(np.float32)
    return (values.astype(np.uint32) << 16).view(np.float32)


def engine_of(
    model: Model, path: Path, arrays: dict[str, NDArray[Any]], dtype: str, precision: str
) -> _native.Engine:
    tensors = {}
    with path.open("wb") as file:
        for name, values in arrays.items():
            file.write(b"#" * (1 + file.tell() % 2))
            tensors[name] = (dtype, file.tell(), values.shape)
            file.write(values.tobytes())
    return model.engine(path=path, tensors=tensors, precision=precision)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits_are_widened_exactly(tmp_path: Path, dtype: str, precision: str) -> None:
    model = make_model(tmp_path, config(padding_idx=None))
    stored = {name: halves(values, dtype) for name, values in model.values.items()}
    # Subnormal numbers, both zeros and the greatest number among them.
    words = stored["embeddings.word_embeddings.weight"].view(np.uint16).reshape(-1)
    words[:8] = (0, 0x8000, 1, 0x8001, 0x03FF, 0x0400, 0x3C00, 0x7BFF if dtype == "float16" else 0x4780)
    narrow = engine_of(model, tmp_path / "narrow", stored, dtype, precision)
    wide = {name: widened(values) for name, values in stored.items()}
    same = engine_of(model, tmp_path / "wide", wide, "float32", precision)
    batch = tokens([9, 30, 2])
    batch.input_ids[:4] = 0  # the row with the special values
    for got, wanted in zip(
        run(narrow, model.config.hidden_size, batch), run(same, model.config.hidden_size, batch), strict=True
    ):
        np.testing.assert_array_equal(got.view(np.uint32), wanted.view(np.uint32))


def test_unknown_types(tmp_path: Path) -> None:
    model = make_model(tmp_path, config())
    with pytest.raises(ValueError, match="tensors must be float32, float16, bfloat16 or int8, not 'int4'"):
        engine_of(model, tmp_path / "other", dict(model.values), "int4", "fp32")


def quantized(model: Model) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[np.float32]]]:
    """Matrices as int8 and scales, beside the rest in float32; and all of it in float32.

    Scales are powers of two and every row and column has its 127, so that both are the same to the engine.
    """
    rng = np.random.default_rng(1)
    stored: dict[str, NDArray[Any]] = {}
    wide: dict[str, NDArray[np.float32]] = {}
    for name, values in model.values.items():
        if values.ndim < 2 or "position" in name or "token_type" in name:
            stored[name] = wide[name] = values
            continue
        integers = rng.integers(-127, 128, values.shape).astype(np.int8)
        integers[0], integers[:, 0] = 127, -127
        by_row = "word_embeddings" in name
        scale = (2.0 ** rng.integers(-12, -8, values.shape[0 if by_row else 1])).astype(np.float32)
        stored[name], stored[f"{name}_scale"] = integers, scale
        wide[name] = integers * (scale[:, None] if by_row else scale)
    return stored, wide


def engine_of_mixed(
    model: Model, path: Path, arrays: dict[str, NDArray[Any]], precision: str
) -> _native.Engine:
    tensors = {}
    with path.open("wb") as file:
        for name, values in arrays.items():
            file.write(b"#" * (1 + file.tell() % 2))
            tensors[name] = (values.dtype.name, file.tell(), values.shape)
            file.write(values.tobytes())
    return model.engine(path=path, tensors=tensors, precision=precision)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_integers_stand_for_multiples_of_their_scales(tmp_path: Path, precision: str) -> None:
    model = make_model(tmp_path, config(padding_idx=None))
    stored, wide = quantized(model)
    batch = tokens([9, 30, 2])
    answers = [
        run(engine_of_mixed(model, tmp_path / name, arrays, precision), model.config.hidden_size, batch)
        for name, arrays in (("stored", stored), ("wide", wide))
    ]
    for got, wanted in zip(*answers, strict=True):
        np.testing.assert_array_equal(got.view(np.uint32), wanted.view(np.uint32))


def test_stored_integers_are_multiplied_as_they_are(tmp_path: Path) -> None:
    """Rounded again, to 127 steps where the greatest is 3, they would be other numbers."""
    model = make_model(tmp_path, config(padding_idx=None))
    stored, wide = quantized(model)
    rng = np.random.default_rng(2)
    for name in [name for name in stored if "albert_layers" in name and stored[name].dtype == np.int8]:
        stored[name] = rng.integers(-3, 4, stored[name].shape).astype(np.int8)
        wide[name] = stored[name] * stored[f"{name}_scale"]
    batch = tokens([9, 30, 2])
    engine = engine_of_mixed(model, tmp_path / "stored", stored, "int8")
    again = engine_of_mixed(model, tmp_path / "wide", wide, "int8")
    exact = engine_of_mixed(model, tmp_path / "exact", wide, "fp32")
    hidden = [run(each, model.config.hidden_size, batch)[0] for each in (engine, again, exact)]
    off = [np.abs(each - hidden[2]).mean() for each in hidden[:2]]
    assert 0 < off[0] < off[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("pooler.weight_scale"), "tensor pooler.weight_scale is missing"),
        (
            lambda t: t.update({"pooler.weight_scale": np.ones(63, np.float32)}),
            "pooler.weight_scale has another shape",
        ),
        (
            lambda t: t.update({"pooler.weight_scale": np.ones(64, np.float16)}),
            "pooler.weight_scale must be float32",
        ),
        (lambda t: t.update({"pooler.bias": np.ones(64, np.int8)}), "tensor pooler.bias cannot be int8"),
    ],
)
def test_integers_without_fitting_scales(tmp_path: Path, change: Any, message: str) -> None:
    model = make_model(tmp_path, config())
    stored, _ = quantized(model)
    change(stored)
    with pytest.raises(ValueError, match=message):
        engine_of_mixed(model, tmp_path / "stored", stored, "fp32")
