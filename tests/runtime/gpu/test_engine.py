"""The GPU engine's passes: bits, graphs, chunks, outputs, arrays on the GPU. Parity is in test_golden.py."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from albert_runtime import InputError, Predictor
from albert_runtime.artifact.artifact import Artifact
from albert_runtime.backends.engine_outputs import Wanted
from albert_runtime.gpu import engine as engine_module
from albert_runtime.gpu import graphs as graphs_module
from albert_runtime.gpu import results as results_module
from albert_runtime.gpu.batch import Capacity
from albert_runtime.gpu.engine import GpuEngine
from albert_runtime.gpu.graphs import bucket
from albert_runtime.gpu.numbers import PRECISIONS

# Heads of 26 columns, sizes that fill no tile.
SIZES = {
    "hidden_size": 52,
    "num_attention_heads": 2,
    "intermediate_size": 72,
    "max_position_embeddings": 150,
    "num_hidden_layers": 2,
}
LEAST_COSINE = {"fp32": 0.9999999, "tf32": 0.9999999, "fp16": 0.99999, "bf16": 0.9995, "int8": 0.998}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def artifact(folder):
    """artifact(task="model", **changes) -> the manifest of a small model."""
    from ..conftest import write_artifact

    made = {}

    def make(task="model", **changes):
        key = (task, *sorted(changes.items()))
        if key not in made:
            made[key] = write_artifact(folder / str(len(made)), task=task, **SIZES, **changes)
        return made[key]

    return make


def rows_of(*lengths):
    generator = np.random.default_rng(sum(lengths))
    return [generator.integers(1, 50, length).tolist() for length in lengths]


def cosines(first, second):
    a, b = (values.reshape(-1, values.shape[-1]).astype(np.float64) for values in (first, second))
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_precisions_of_a_float32_artifact(artifact, precision):
    rows = rows_of(3, 130, 1, 64)
    expected = Predictor(artifact(), backend="native").run(rows)
    predictor = Predictor(artifact(), backend="gpu", precision=precision)
    found = predictor.run(rows)
    kept = np.arange(130) < np.array([3, 130, 1, 64])[:, None]
    assert not found["last_hidden_state"][~kept].any()
    least = LEAST_COSINE[precision]
    assert cosines(found["last_hidden_state"][kept], expected["last_hidden_state"][kept]).min() > least
    assert cosines(found["pooled_output"], expected["pooled_output"]).min() > least
    assert predictor.info()["computes"] == precision


def test_int8_has_the_cpu_engines_integers(artifact):
    """Both quantize alike: int8 on the GPU is nearer to int8 on the CPU than to fp32."""
    rows = rows_of(40, 20)
    fp32, int8 = (
        Predictor(artifact(), backend="native", precision=p).run(rows)["pooled_output"]
        for p in ("fp32", "int8")
    )
    found = Predictor(artifact(), backend="gpu", precision="int8").run(rows)["pooled_output"]
    assert np.abs(found - int8).mean() < 0.7 * np.abs(found - fp32).mean()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_a_row_has_the_same_bits_alone_in_any_batch_and_place(artifact, precision):
    predictor = Predictor(artifact(), backend="gpu", precision=precision)
    rows = rows_of(70, 1, 64, 5, 129)
    together = predictor.run(rows)
    backwards = predictor.run(rows[::-1])
    padded = np.zeros((5, 150), np.int64)
    for row, ids in enumerate(rows):
        padded[row, : len(ids)] = ids
    wider = predictor.run({"input_ids": padded})
    for row, ids in enumerate(rows):
        alone = predictor.run([ids])
        for other, at in ((together, row), (backwards, 4 - row), (wider, row)):
            state = other["last_hidden_state"][at, : len(ids)]
            np.testing.assert_array_equal(state, alone["last_hidden_state"][0])
            np.testing.assert_array_equal(other["pooled_output"][at], alone["pooled_output"][0])


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_any_mask_answers_as_the_cpu_engine(artifact, data):
    lengths = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=4))
    width = max(lengths)
    mask = np.array([data.draw(st.lists(st.integers(0, 1), min_size=width, max_size=width)) for _ in lengths])
    mask[np.arange(len(lengths)), data.draw(st.integers(0, width - 1))] = 1
    ids = np.arange(mask.size).reshape(mask.shape) % 49 + 1
    batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids % 2}
    expected = Predictor(artifact(), backend="native").run(batch)
    found = Predictor(artifact(), backend="gpu").run(batch)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=2e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_asking_for_less_gives_the_same_bits(artifact, precision):
    predictor = Predictor(artifact(), backend="gpu", precision=precision)
    rows = rows_of(70, 3)
    whole = predictor.run(rows)
    for name in whole:
        found = predictor.run(rows, outputs=[name])
        assert list(found) == [name]
        np.testing.assert_array_equal(found[name], whole[name])


def test_masked_first_positions(artifact):
    batch = {"input_ids": [[4, 5, 6, 7]], "attention_mask": [[0, 1, 0, 1]]}
    expected = Predictor(artifact(), backend="native").run(batch)
    found = Predictor(artifact(), backend="gpu").run(batch)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5)


def test_groups_and_inner_layers_and_no_pooler(artifact):
    changes = {"num_hidden_groups": 2, "inner_group_num": 2, "add_pooling_layer": False, "hidden_act": "relu"}
    rows = rows_of(9, 4)
    expected = Predictor(artifact(**changes), backend="native").run(rows)
    found = Predictor(artifact(**changes), backend="gpu").run(rows)
    assert list(found) == ["last_hidden_state"]
    np.testing.assert_allclose(found["last_hidden_state"], expected["last_hidden_state"], atol=1e-5)


@pytest.mark.parametrize("task", ["masked-lm", "pretraining"])
def test_scores_at_positions(artifact, task, monkeypatch):
    """In any order, more than once, and in several pieces."""
    monkeypatch.setattr(results_module, "_MOST_SCORE_BYTES", 2 * 4 * 50)  # two tokens
    rows, positions = rows_of(5, 9, 3), [[4, 0, 4], [8], [0, 1]]
    expected = Predictor(artifact(task), backend="native").run(rows, positions=positions)
    predictor = Predictor(artifact(task), backend="gpu")
    found = predictor.run(rows, positions=positions)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5)
    everywhere = predictor.run(rows)["prediction_scores"]
    at = [everywhere[row, column] for row, columns in enumerate(positions) for column in columns]
    np.testing.assert_array_equal(found["prediction_scores"], np.array(at))


def test_long_batches_go_through_in_passes(artifact, monkeypatch):
    predictor = Predictor(artifact("masked-lm"), backend="gpu")
    rows = rows_of(30, 20, 7, 7, 40, 2)
    whole = predictor.run(rows)["prediction_scores"]
    seen = []
    monkeypatch.setattr(engine_module, "_MOST_TOKENS", 32)
    inner = GpuEngine._pass
    monkeypatch.setattr(
        GpuEngine,
        "_pass",
        lambda self, part, *others: seen.append(part.shape[0]) or inner(self, part, *others),
    )
    np.testing.assert_array_equal(predictor.run(rows)["prediction_scores"], whole)
    assert seen == [1, 2, 1, 1, 1]  # a row longer than a pass goes alone


def test_hidden_states(artifact, folder):
    from dataclasses import replace

    from albert_runtime.artifact.manifest import Manifest

    path = artifact()
    manifest = Manifest.read(path)
    head = replace(manifest.head, hidden_states=True)
    source = Artifact.open(path)
    manifest = replace(manifest, head=head, outputs=head.outputs(manifest.config))
    target = folder / "states"
    target.mkdir(exist_ok=True)
    for file in source.files.values():
        (target / file.name).write_bytes(file.read_bytes())
    manifest.write(target / path.name)
    batch = {"input_ids": [[4, 5, 6, 7], [9, 8, 0, 0]], "attention_mask": [[0, 1, 0, 1], [1, 1, 0, 0]]}
    expected = Predictor(target, backend="native").run(batch)
    found = Predictor(target, backend="gpu").run(batch)
    assert list(found) == list(expected) == ["last_hidden_state", "pooled_output", "hidden_states"]
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5)


def test_graphs_are_bounded(artifact, monkeypatch):
    opened = Artifact.open(artifact())
    engine = GpuEngine(opened.files["weights"], opened.manifest, "fp32")
    predictor = Predictor(artifact(), backend="native")
    wanted = Wanted.of(("pooled_output",), opened.manifest.head)

    def run(*lengths):
        engine.run(predictor.pack(rows_of(*lengths)), wanted)
        return len(engine.graphs)

    assert [run(3), run(16), run(9), run(17), run(2, 2)] == [1, 1, 1, 2, 3]
    monkeypatch.setattr(graphs_module, "_MOST_GRAPHS", 3)
    assert [run(33), run(16)] == [3, 3]
    monkeypatch.setattr(graphs_module, "_MOST_BYTES", 32 * engine.model.bytes_per_token())
    monkeypatch.setattr(graphs_module, "_LEAST_GRAPHS", 2)
    assert run(17) == 3  # too large to keep: it runs without a graph
    assert run(1, 1, 1) == 2


def test_a_pass_is_captured_after_its_first_run_on_a_stream_of_its_own(artifact, monkeypatch):
    """As far as a machine without a GPU shows it."""
    opened = Artifact.open(artifact())
    engine = GpuEngine(opened.files["weights"], opened.manifest, "fp32")
    seen, streams = [], ["the engine's"]

    @contextmanager
    def stream(entered):
        streams.append(entered)
        yield
        streams.pop()

    class Graph:
        def capture_begin(self, capture_error_mode):
            seen.append(("begin", streams[-1], capture_error_mode))

        def capture_end(self):
            seen.append("end")

        def replay(self):
            seen.append("replay")

    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(graphs_module.Forward, "__call__", lambda self, wanted: seen.append(streams[-1]))
    wanted = graphs_module.PassWanted(tokens=False, token_logits=False, pooled=True, pooled_logits=False)
    captured = engine.graphs.get(Capacity(16, 1), wanted)
    monkeypatch.setattr(engine.device, "is_gpu", True)
    monkeypatch.setattr(engine.device, "capture_stream", "another")
    captured()
    captured()
    begin = ("begin", "another", "thread_local")
    assert seen == ["the engine's", begin, "another", "end", "replay"]


@given(tokens=st.integers(1, 5000), data=st.data())
def test_buckets_hold_what_they_are_for(tokens, data):
    needed = Capacity(tokens, data.draw(st.integers(1, tokens)))
    found = bucket(needed)
    assert found.tokens >= needed.tokens and found.blocks >= needed.blocks
    assert found.blocks <= found.tokens <= max(16, 2 * needed.tokens)
    assert bucket(found) == found


def arrays_on(device, **arrays):
    return {name: torch.tensor(values, device=device) for name, values in arrays.items()}


def test_ids_on_the_gpu_are_read_and_checked_there(artifact, device, monkeypatch):
    opened = Artifact.open(artifact())
    engine = GpuEngine(opened.files["weights"], opened.manifest, "fp32")
    predictor = Predictor(artifact(), backend="native")
    mask = [[1, 1, 1, 1], [0, 1, 1, 0], [1, 0, 1, 0]]
    ids = [[4, 5, 6, 7], [9, 8, 3, 99], [1, 99, 2, 99]]  # what is masked is not looked at
    types = [[0, 1, 1, 0], [1, 1, 1, 0], [0, 0, 1, 0]]
    batch = predictor.pack({"input_ids": np.minimum(ids, 9), "attention_mask": mask, "token_type_ids": types})
    wanted = Wanted.of(("pooled_output", "last_hidden_state"), opened.manifest.head)
    expected = engine.run(batch, wanted)
    found = engine.run(batch, wanted, on_gpu=arrays_on(device, input_ids=ids, token_type_ids=types))
    np.testing.assert_array_equal(found.hidden, expected.hidden)
    np.testing.assert_array_equal(found.pooled, expected.pooled)

    monkeypatch.setattr(engine_module, "_MOST_TOKENS", 4)  # a pass for each row
    for row, column, value in ((0, 2, 50), (1, 1, -1), (2, 2, 2**33 + 4), (2, 0, -(2**40))):
        bad = [list(values) for values in ids]
        bad[row][column] = value
        with pytest.raises(InputError, match=f"row {row}, column {column}: input_ids holds {value}"):
            engine.run(batch, wanted, on_gpu=arrays_on(device, input_ids=bad, token_type_ids=types))
    types[1][2] = 2
    with pytest.raises(InputError, match="row 1, column 2: token_type_ids holds 2"):
        engine.run(batch, wanted, on_gpu=arrays_on(device, input_ids=ids, token_type_ids=types))


def test_the_scheduler_in_front_of_it(artifact):
    predictor = Predictor(artifact(), backend="gpu")
    rows = rows_of(5, 70, 2)
    futures = [predictor.submit([row]) for row in rows]
    for row, future in zip(rows, futures, strict=True):
        expected = predictor.run([row])
        for name, values in future.result().items():
            np.testing.assert_array_equal(values, expected[name])


def test_predictors_share_the_weights(artifact):
    first, second, other = (
        Predictor(artifact(), backend="gpu", precision=p) for p in ("fp32", "fp32", "bf16")
    )
    assert first._model.backend._engine is second._model.backend._engine is not other._model.backend._engine
    assert other.info()["weight_bytes"] < 0.6 * first.info()["weight_bytes"]
