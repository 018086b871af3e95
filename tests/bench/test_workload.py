"""The work: the same every time, within the model's limits, and what it costs."""

from dataclasses import replace

import numpy as np

from albert_bench.compare import encoder_manifest
from albert_bench.workload import QUICK, STANDARD, mixed, select_workloads, uniform
from albert_export.variants import VARIANTS

BASE = VARIANTS["albert-base-v2"]


def test_rows_follow_from_the_seed_alone():
    for workload in select_workloads(STANDARD, BASE):
        first, second = workload.rows(BASE), workload.rows(BASE)
        assert [len(row) for row in first] == list(workload.lengths)
        for a, b in zip(first, second, strict=True):
            np.testing.assert_array_equal(a, b)


def test_ids_are_words_of_the_model(tiny):
    for config in (BASE, encoder_manifest(tiny).config, replace(BASE, vocab_size=3)):
        for workload in select_workloads(QUICK, config):
            ids = np.concatenate(workload.rows(config))
            assert ids.min() >= min(5, config.vocab_size - 1)
            assert ids.max() < config.vocab_size


def test_mixed_lengths_are_clipped():
    lengths = np.array(mixed(50_000).lengths)
    assert (lengths.min(), lengths.max()) == (5, 384)
    assert 30 < np.median(lengths) < 36
    assert max(mixed(5000, 16).lengths) == 16
    assert set(mixed(20, 3).lengths) == {3}


def test_rows_too_long_for_the_model_are_left_out(tiny):
    assert [workload.name for workload in select_workloads(STANDARD, BASE)] == list(STANDARD)
    assert [workload.name for workload in select_workloads(STANDARD, encoder_manifest(tiny).config)] == [
        "1x16",
        "mixed 32",
        "mixed 128",
    ]


def test_flops_are_those_of_the_matrix_products():
    hidden, inner, tokens = 768, 3072, 16
    layer = 2 * tokens * (4 * hidden * hidden + 2 * hidden * inner) + 2 * 2 * tokens * tokens * hidden
    assert uniform(1, tokens).flops(BASE) == 12 * layer
    assert uniform(3, tokens).flops(BASE) == 3 * 12 * layer


def test_a_pooled_output_needs_less_of_the_last_layer():
    hidden, inner, tokens = 768, 3072, 16
    keys_and_values = 2 * tokens * 2 * hidden * hidden
    first_token = 2 * (2 * hidden * hidden + 2 * hidden * inner) + 2 * 2 * tokens * hidden
    eleven = 11 * uniform(1, tokens).flops(BASE) / 12
    assert uniform(3, tokens).flops(BASE, pooled_only=True) == 3 * (eleven + keys_and_values + first_token)
