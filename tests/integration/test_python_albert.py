"""The model kept in the repository, trained on Python's documentation: from checkpoint to sensible words."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from albert_export import cli
from albert_runtime import Predictor
from outliers import add_outliers

CHECKPOINT = Path(__file__).resolve().parents[2] / "models" / "python-albert"
HELD_OUT = [
    json.loads(line) for line in (CHECKPOINT / "held-out.jsonl").read_text(encoding="utf-8").splitlines()
]
SENTENCES = [line["text"] for line in HELD_OUT]


@pytest.fixture(scope="module")
def int8(export_artifact: Callable[..., Path]) -> Path:
    return export_artifact(CHECKPOINT, precision="int8")


@pytest.fixture(scope="module")
def program(export_artifact: Callable[..., Path]) -> Path:
    return export_artifact(CHECKPOINT)


def words(answer: dict[str, Any]) -> list[str]:
    return [candidate["token"] for candidate in answer["masks"][0]["candidates"]]


def shares_right(predictor: Predictor) -> tuple[float, float]:
    """Of the held-out sentences, how many have the true word first and among the best five."""
    found = [words(answer) for answer in predictor.stream("fill_mask", SENTENCES)]
    first = sum(best[0] == line["word"] for best, line in zip(found, HELD_OUT, strict=True))
    in_five = sum(line["word"] in best for best, line in zip(found, HELD_OUT, strict=True))
    return first / len(HELD_OUT), in_five / len(HELD_OUT)


def test_the_checkpoint_is_small_and_repeats_one_layer() -> None:
    assert (CHECKPOINT / "model.safetensors").stat().st_size < 4_000_000
    config = json.loads((CHECKPOINT / "config.json").read_text(encoding="utf-8"))
    assert config["num_hidden_layers"] == 12
    assert config["num_hidden_groups"] == config["inner_group_num"] == 1
    assert config["vocab_size"] <= 4096


@pytest.mark.parametrize(
    ("sentence", "word"),
    [
        ("Return True if the string is empty, [MASK] otherwise.", "false"),
        ("If the file does not [MASK], an exception is raised.", "exist"),
        ("Python is a programming [MASK].", "language"),
        ("A tuple is an immutable [MASK].", "sequence"),
        ("This module provides a class for working with regular [MASK].", "expressions"),
        ("The for statement is used to [MASK] over the elements of a sequence.", "iterate"),
        ("Read at most n [MASK] from the socket.", "bytes"),
        ("A thread waits until the [MASK] is released.", "lock"),
    ],
)
def test_it_fills_masks_sensibly(program: Path, sentence: str, word: str) -> None:
    answer = Predictor(program).fill_mask(sentence)
    assert word in words(answer)
    assert all(candidate["text"].count("[MASK]") == 0 for candidate in answer["masks"][0]["candidates"])


def test_it_knows_many_words_of_files_it_has_not_seen(program: Path) -> None:
    first, in_five = shares_right(Predictor(program))
    assert first > 0.36
    assert in_five > 0.58


@pytest.mark.parametrize("backend", ["onnxruntime", "paddle"])
def test_the_backends_give_the_same_words(program: Path, backend: str) -> None:
    ours, theirs = (Predictor(program, backend=name) for name in ("native", backend))
    for one, other in zip(ours.fill_mask(SENTENCES[:40]), theirs.fill_mask(SENTENCES[:40]), strict=True):
        scores = [[c["score"] for c in answer["masks"][0]["candidates"]] for answer in (one, other)]
        np.testing.assert_allclose(*scores, atol=1e-4)
        assert one["text"] == other["text"]


@pytest.mark.parametrize(("precision", "lost"), [("bf16", 0.01), ("int8", 0.02)])
def test_reduced_precision_knows_nearly_as_much(program: Path, precision: str, lost: float) -> None:
    exact, reduced = Predictor(program), Predictor(program, precision=precision)
    for full, less in zip(shares_right(exact), shares_right(reduced), strict=True):
        assert less > full - lost


@pytest.mark.parametrize("backend", ["native", "onnxruntime"])
def test_an_int8_artifact_knows_nearly_as_much(program: Path, int8: Path, backend: str) -> None:
    for full, less in zip(
        shares_right(Predictor(program)), shares_right(Predictor(int8, backend=backend)), strict=True
    ):
        assert less > full - 0.02


def test_outliers_leave_fp32_as_it_is_and_int8_nearly(program: Path, tmp_path: Path) -> None:
    """Channels 20 times as great, folded into the next weights: a scale for all of them would be the end."""
    stressed = add_outliers(CHECKPOINT, tmp_path / "stressed")
    assert cli.main([str(stressed), "-o", str(tmp_path), "--int8", "--quiet"]) == 0
    assert cli.main([str(stressed), "-o", str(tmp_path), "--quiet"]) == 0
    calm, stormy = Predictor(program), Predictor(tmp_path / "stressed")
    batch = {"input_ids": np.random.default_rng(0).integers(5, 4096, (4, 60))}
    name = "prediction_scores"
    np.testing.assert_allclose(stormy.run(batch)[name], calm.run(batch)[name], atol=2e-3)
    full = shares_right(calm)[0]
    assert shares_right(Predictor(tmp_path / "stressed-int8"))[0] > full - 0.03
