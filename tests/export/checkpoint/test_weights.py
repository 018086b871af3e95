"""Seeded weights and hashes."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from albert_export.checkpoint.weight_files import update_digest
from albert_export.checkpoint.weights import (
    CheckpointWeights,
    RandomWeights,
    tensor_sha256,
)
from albert_runtime.artifact import tasks
from albert_runtime.artifact.tasks import Head


def load(config, seed, head=Head()):  # noqa: B008  (frozen)
    tensors, left_out = RandomWeights(seed).load(config, head)
    assert left_out == []
    return dict(tensors)


def test_every_tensor_with_its_shape(tiny):
    tensors = load(tiny, 0)
    assert {name: value.shape for name, value in tensors.items()} == tiny.tensor_shapes()
    assert all(value.dtype == np.float32 for value in tensors.values())


def test_values(tiny):
    config = replace(tiny, vocab_size=3000, embedding_size=64, initializer_range=0.3)
    for name, value in load(config, 1).items():
        if name.endswith(".bias"):
            assert not value.any()
        elif "layer_norm" in name:
            assert (value == 1).all()
        else:
            assert value.std() == pytest.approx(0.3, rel=0.3)
            assert len(np.unique(value)) > value.size * 0.9
    words = load(config, 1)["embeddings.word_embeddings.weight"]
    assert words.std() == pytest.approx(0.3, rel=0.01)
    assert abs(words.mean()) < 0.003


def test_seeded(tiny):
    first, again, other = load(tiny, 7), load(tiny, 7), load(tiny, 8)
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    assert not np.array_equal(first["pooler.weight"], other["pooler.weight"])
    assert not np.array_equal(
        first["pooler.weight"][:8, :8], first["encoder.embedding_hidden_mapping_in.weight"][:, :8]
    )


def test_depth_does_not_change_values(tiny):
    shallow, deep = load(tiny, 7), load(replace(tiny, num_hidden_layers=6, add_pooling_layer=False), 7)
    for name in deep:
        np.testing.assert_array_equal(shallow[name], deep[name])


@pytest.mark.parametrize("task", tasks.TASKS)
def test_heads_come_last_and_leave_the_encoder_alone(tiny, task):
    head = Head.of(task, num_labels=3, tied_decoder=False)
    tensors = load(tiny, 7, head)
    assert list(tensors) == [*tiny.tensor_shapes(), *head.tensor_shapes(tiny)]
    for name, value in load(tiny, 7).items():
        np.testing.assert_array_equal(value, tensors[name])


def test_origins(tmp_path):
    assert RandomWeights(3).origin("") == {"kind": "random", "seed": 3}
    shards = (tmp_path / "a.bin", tmp_path / "b.bin")
    for path in shards:
        path.write_bytes(path.name.encode() * 1000)
    digest = hashlib.sha256()
    for path in shards:
        update_digest(digest, path)
    assert CheckpointWeights(shards, "huggingface", ()).origin(digest.hexdigest()) == {
        "kind": "checkpoint",
        "format": "huggingface",
        "files": ["a.bin", "b.bin"],
        "sha256": hashlib.sha256(b"a.bin" * 1000 + b"b.bin" * 1000).hexdigest(),
    }


def test_the_hash_of_a_tensor_is_of_its_bytes_in_c_order():
    data = np.arange(1000, dtype=np.float32).reshape(10, 100)
    assert tensor_sha256(data) == hashlib.sha256(data.tobytes()).hexdigest()
    assert tensor_sha256(data.T) == tensor_sha256(np.ascontiguousarray(data.T))
