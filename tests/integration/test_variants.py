"""Every variant, from its name to answers: wide ones with fewer layers, and in full among the slow tests."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from albert_export.variants import VARIANTS
from albert_runtime import Predictor

from ..export.machine import answering, left_out

NAMES = list(VARIANTS)
WIDE = [name for name, config in VARIANTS.items() if config.hidden_size > 1024]
ONE_OF_EACH = list({config.hidden_size: name for name, config in VARIANTS.items()}.values())
BATCH = {
    "input_ids": [[2, 70, 800, 9000, 3, 0, 0], [2, 5, 6, 7, 8, 9, 3], [0, 0, 0, 2, 11, 12, 3]],
    "token_type_ids": [[0, 0, 1, 1, 1, 0, 0], [0] * 7, [0] * 7],
}


@pytest.fixture
def program(request, export_artifact) -> Iterator[Path]:
    """The exported program of (variant, layers, precision). The wide ones, a gigabyte each, are removed: no
    other test reads them, and a process has one at a time."""
    name, layers, precision = request.param
    path = export_artifact(name, small_layers=layers, precision=precision)
    yield path
    if name in WIDE:
        shutil.rmtree(path.parent)


def check_artifact_and_answers(program: Path) -> None:
    native = Predictor(program, backend="native")
    manifest = native.manifest
    # The weights lie there once, whatever the depth; the graph only points at them.
    payload = 4 * manifest.config.parameter_count()
    assert payload < program.with_suffix(".pdiparams").stat().st_size < payload + 200 * len(manifest.tensors)
    assert program.with_suffix(".onnx").stat().st_size < 200_000
    assert set(manifest.verification["backends"]) == {"native", "onnxruntime", "paddle"}

    answer = native.run(BATCH)
    hidden = manifest.config.hidden_size
    assert {name: array.shape for name, array in answer.items()} == {
        "last_hidden_state": (3, 7, hidden),
        "pooled_output": (3, hidden),
    }
    assert not answer["last_hidden_state"][np.array(BATCH["input_ids"]) == 0].any()
    other = Predictor(program, backend="onnxruntime").run(BATCH)
    tolerance = manifest.verification["tolerance"]
    for name, array in answer.items():
        np.testing.assert_allclose(array, other[name], atol=2 * tolerance)
    alone = native.run({key: rows[1:2] for key, rows in BATCH.items()})
    assert np.array_equal(alone["last_hidden_state"][0], answer["last_hidden_state"][1])


@pytest.mark.parametrize(
    "program", [(name, 1 if name in WIDE else None, "fp32") for name in NAMES], indirect=True, ids=NAMES
)
def test_variant(program: Path) -> None:
    check_artifact_and_answers(program)


@pytest.mark.slow
@pytest.mark.parametrize("program", [(name, None, "fp32") for name in WIDE], indirect=True, ids=WIDE)
def test_wide_variant_in_full(program: Path) -> None:
    check_artifact_and_answers(program)


def check_fewer_bits(program: Path) -> None:
    native = Predictor(program)
    manifest = native.manifest
    quantized = manifest.precision == "int8"
    payload = (1 if quantized else 2) * manifest.config.parameter_count()
    size = program.with_suffix(".pdiparams").stat().st_size
    assert payload < size < payload * (1.1 if quantized else 1.01) + 200 * len(manifest.tensors)
    assert program.with_suffix(".onnx").stat().st_size < 400_000
    record = manifest.verification
    assert set(record["backends"]) == set(answering(manifest.precision))
    reasons = record.get("left_out", {})
    assert reasons.keys() == left_out(manifest.precision).keys() and all(reasons.values())
    for depths in record["depths"].values():
        assert len(depths) == manifest.config.num_hidden_layers
        assert all(errors["cosine"] > (0.99 if quantized else 0.999) for errors in depths.values())
    answer = native.run(BATCH)
    computes = {"fp16": "fp32", "bf16": "bf16", "int8": "int8"}
    assert native.info()["computes"] == computes[manifest.precision]
    alone = native.run({key: rows[1:2] for key, rows in BATCH.items()})
    assert np.array_equal(alone["last_hidden_state"][0], answer["last_hidden_state"][1])


def parameters(names: list[str], layers: int | None) -> list[object]:
    return [
        pytest.param((name, layers if name in WIDE else None, precision), id=f"{name}-{precision}")
        for name in names
        for precision in ("fp16", "bf16", "int8")
    ]


@pytest.mark.parametrize("program", parameters(ONE_OF_EACH, 1), indirect=True)
def test_variant_in_fewer_bits(program: Path) -> None:
    check_fewer_bits(program)


@pytest.mark.slow
@pytest.mark.parametrize(
    "program",
    parameters([name for name in NAMES if name in WIDE or name not in ONE_OF_EACH], None),
    indirect=True,
)
def test_every_variant_in_fewer_bits(program: Path) -> None:
    check_fewer_bits(program)
