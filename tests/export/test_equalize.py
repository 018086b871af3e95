"""Channels evened out: the same model, and outliers that are gone."""

from dataclasses import replace

import numpy as np
import pytest

from albert_export.equalize import equalized
from albert_runtime.artifact.config import layer_prefix

PREFIX = layer_prefix(0, 0)
VALUE, DENSE = f"{PREFIX}attention.value", f"{PREFIX}attention.dense"
FFN, FFN_OUTPUT = f"{PREFIX}ffn", f"{PREFIX}ffn_output"


def through(tensors, first, second, x, function):
    """function(x W + b) W of the second."""
    y = x @ tensors[f"{first}.weight"].astype(np.float64) + tensors[f"{first}.bias"]
    return function(y) @ tensors[f"{second}.weight"].astype(np.float64)


@pytest.mark.parametrize("act", ["gelu_new", "relu"])
def test_the_model_stays_the_same_to_the_bit(tiny, tiny_tensors, act):
    config = replace(tiny, hidden_act=act)
    even = list(equalized(tiny_tensors.items(), config))
    assert sorted(name for name, _ in even) == sorted(tiny_tensors)
    even = dict(even)
    assert all(
        values.dtype == np.float32 and values.shape == tiny_tensors[name].shape
        for name, values in even.items()
    )
    x = np.random.default_rng(0).normal(size=(9, 12))
    relu = lambda y: np.maximum(y, 0)  # noqa: E731
    for first, second, function in ((VALUE, DENSE, lambda y: y), (FFN, FFN_OUTPUT, relu)):
        before, after = (through(each, first, second, x, function) for each in (tiny_tensors, even))
        np.testing.assert_array_equal(before, after)
    changed = {name for name, values in even.items() if not np.array_equal(values, tiny_tensors[name])}
    pairs = (VALUE, DENSE, FFN, FFN_OUTPUT) if act == "relu" else (VALUE, DENSE)
    assert changed <= {f"{name}.{part}" for name in pairs for part in ("weight", "bias")}


def test_outliers_are_gone(tiny, tiny_tensors):
    calm = dict(equalized(tiny_tensors.items(), tiny))
    for part in ("weight", "bias"):
        tiny_tensors[f"{VALUE}.{part}"][..., [2, 7]] *= 32
    tiny_tensors[f"{DENSE}.weight"][[2, 7]] /= 32
    even = dict(equalized(tiny_tensors.items(), tiny))
    for name in (f"{VALUE}.weight", f"{DENSE}.weight"):
        ratio = np.abs(even[name]).max() / np.abs(calm[name]).max()
        assert 0.5 <= ratio <= 2


def test_channels_of_zeros_stay(tiny, tiny_tensors):
    tiny_tensors[f"{VALUE}.weight"][:, 3] = tiny_tensors[f"{VALUE}.bias"][3] = 0
    tiny_tensors[f"{DENSE}.weight"][5] = 0
    even = dict(equalized(tiny_tensors.items(), tiny))
    assert all(np.isfinite(values).all() for values in even.values())
    np.testing.assert_array_equal(even[f"{DENSE}.weight"][[3, 5]], tiny_tensors[f"{DENSE}.weight"][[3, 5]])
    nothing = {name: np.zeros_like(values) for name, values in tiny_tensors.items()}
    assert all(np.isfinite(values).all() for _, values in equalized(nothing.items(), tiny))
