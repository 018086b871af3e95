"""Weights stored in 16 bits: the engine is that of the same values in float32, bit for bit."""

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
    with pytest.raises(ValueError, match="tensors must be float32, float16 or bfloat16, not 'int4'"):
        engine_of(model, tmp_path / "other", dict(model.values), "int4", "fp32")
