"""A small predictor, whose passes can be held up."""

import threading
import time

import numpy as np
import pytest

from albert_runtime import Predictor
from albert_runtime.batch.packed import ModelLimits

LIMITS = ModelLimits(vocab_size=50, type_vocab_size=2, max_position_embeddings=10)


@pytest.fixture
def predictor(make_artifact):
    with Predictor(make_artifact(), max_batch_tokens=24) as found:
        yield found


def assert_equal(answer, expected):
    assert list(answer) == list(expected)
    for name, values in expected.items():
        assert answer[name].dtype == np.float32 and answer[name].shape == values.shape
        assert np.array_equal(answer[name], values), name


def batches(count, seed=0):
    """Of every form: ragged, padded wider than their rows, with holes and masked first positions."""
    generator = np.random.default_rng(seed)
    found = []
    for index in range(count):
        rows, width = int(generator.integers(1, 5)), int(generator.integers(1, 11))
        ids = generator.integers(1, 50, (rows, width))
        if index % 3 == 0:
            found.append([list(row[: generator.integers(1, width + 1)]) for row in ids])
            continue
        mask = generator.integers(0, 2, (rows, width))
        mask[:, int(generator.integers(0, width))] = 1
        found.append({"input_ids": ids, "attention_mask": mask if index % 3 == 1 else np.ones_like(mask)})
    return found


@pytest.fixture
def gate(predictor, monkeypatch):
    """Holds the scheduler's batches up until it is opened, and counts them."""
    run, opened = predictor.scheduler.run, threading.Event()

    class Gate:
        def open(self):
            opened.set()

        def wait_for_pass(self):
            until = time.monotonic() + 10
            while not self.passes and time.monotonic() < until:
                time.sleep(0.001)

    gate = Gate()
    gate.passes = []

    def held(batch, outputs, score_tokens):
        gate.passes.append(batch)
        opened.wait(10)
        return run(batch, outputs, score_tokens)

    monkeypatch.setattr(predictor.scheduler, "run", held)
    yield gate
    opened.set()
