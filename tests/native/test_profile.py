"""ALBERT_PROFILE=1: a table of the steps' times on stderr, and the same bits."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHILD = """
import hashlib, os, sys
from pathlib import Path
import numpy as np
from tests.native.model import config, tokens
from tests.native.test_heads import with_heads

folder, precision, end = sys.argv[1:]
model = with_heads(Path(folder), tied=True)
engine = model.engine(precision=precision, token_classifier="classifier",
                      pooled_classifier="sop_classifier.classifier", vocabulary_head=True)
t = tokens([11, 7, 1, 40])
packed = t.input_ids, t.positions, t.token_type_ids, t.row_starts, t.masked_first
rows, h, c = len(t.masked_first), model.config.hidden_size, model.config

def run(for_tokens):
    pooled, pooled_logits = np.zeros((rows, h), np.float32), np.zeros((rows, 2), np.float32)
    if not for_tokens:
        engine.run(*packed, None, pooled, 2, pooled_logits=pooled_logits)
        return [pooled, pooled_logits]
    hidden = np.zeros((rows, t.width, h), np.float32)
    states = np.zeros((rows, t.width, c.num_hidden_layers + 1, h), np.float32)
    logits, scores = np.zeros((rows, t.width, 5), np.float32), np.zeros((3, c.vocab_size), np.float32)
    chosen = np.array([0, 12, 30], np.int32), np.arange(3, dtype=np.int32)
    engine.run(*packed, hidden, pooled, 2, hidden_states=states, token_logits=logits,
               pooled_logits=pooled_logits, scores=scores, score_tokens=chosen[0], score_slots=chosen[1])
    return [hidden, pooled, states, logits, pooled_logits, scores]

for array in run(True) + run(False):
    print(hashlib.sha256(array.tobytes()).hexdigest())
if end == "fork":
    child = os.fork()
    if child == 0:
        sys.exit()
    os.waitpid(child, 0)
if end == "destroyed":
    del engine
    print("after the engine", file=sys.stderr)
"""
STEPS = {
    "embeddings",
    "q|k|v",
    "attention",
    "attention output",
    "add and norm",
    "ffn",
    "ffn output",
    "token classifier",
    "vocabulary head",
    "pooler",
    "pooled classifier",
    "copies",
    "other",
}
PRODUCTS = STEPS - {"add and norm", "copies", "other"}
LINE = re.compile(r"(.+?) +(\d+\.\d+) +(\d+\.\d) %(?: +(\d+\.\d) +(\d+\.\d) %)?")


def child(folder: Path, precision: str, end: str = "exit", **variables: str) -> tuple[str, str]:
    environment = {name: value for name, value in os.environ.items() if name != "ALBERT_PROFILE"} | variables
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(folder), precision, end],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout, done.stderr


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_a_profile_is_printed_when_it_is_asked_for_and_changes_no_bits(
    tmp_path: Path, precision: str
) -> None:
    digests, nothing = child(tmp_path, precision)
    assert nothing == ""
    assert child(tmp_path, precision, ALBERT_PROFILE="0") == (digests, "")
    same_digests, table = child(tmp_path, precision, ALBERT_PROFILE="1")
    assert same_digests == digests

    title, columns, *lines, peaks = table.splitlines()
    assert re.fullmatch(rf"ALBERT_PROFILE: {precision} on \w+, 2 threads, 2 runs, 118 tokens", title)
    assert columns.split() == ["step", "seconds", "share", "GFLOP/s", "of", "peak"]
    steps = {}
    for line in lines:
        match = LINE.fullmatch(line)
        assert match is not None, line
        steps[match[1]] = [None if value is None else float(value) for value in match.groups()[1:]]
    total = steps.pop("total")
    assert steps.keys() == STEPS | ({"quantize"} if precision == "int8" else set())
    assert sum(share for _, share, _, _ in steps.values()) == pytest.approx(100, abs=0.05 * len(steps) + 0.01)
    assert sum(seconds for seconds, _, _, _ in steps.values()) == pytest.approx(
        total[0], abs=0.00005 * (len(steps) + 1)
    )
    assert {name for name, (_, _, rate, _) in steps.items() if rate is not None} == PRODUCTS
    precisions = {"fp32", precision} | ({"bf16"} if precision == "int8" else set())  # attention's
    assert set(peaks.removeprefix("peak GFLOP/s: ").split()[::2]) == precisions


def test_a_profile_is_printed_when_the_engine_is_destroyed(tmp_path: Path) -> None:
    _, errors = child(tmp_path, "fp32", "destroyed", ALBERT_PROFILE="1")
    assert errors.startswith("ALBERT_PROFILE: ")
    assert errors.count("ALBERT_PROFILE: ") == 1
    assert errors.endswith("\nafter the engine\n")


def test_a_forked_child_does_not_print_the_profile_of_its_parent(tmp_path: Path) -> None:
    _, errors = child(tmp_path, "fp32", "fork", ALBERT_PROFILE="1")
    assert errors.count("ALBERT_PROFILE: ") == 1
