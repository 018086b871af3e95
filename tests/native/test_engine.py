"""The engine: against ALBERT in float64, and a row's bits against the same row in any company."""

import os
import platform
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from albert_runtime import _native

from .model import Model, Tokens, config, make_model, reference, row, run, run_pooled, tokens

CONFIGS: dict[str, dict[str, Any]] = {
    "head 26, erf": {
        "hidden_size": 312,
        "num_attention_heads": 12,
        "intermediate_size": 130,
        "hidden_act": "gelu",
    },
    "head 32, tanh": {"hidden_size": 96, "num_attention_heads": 3},
    "head 64, relu": {"hidden_size": 128, "hidden_act": "relu"},
    "head 128": {"hidden_size": 256, "intermediate_size": 200},
    "head 256": {"hidden_size": 256, "num_attention_heads": 1},
    "head 7": {"hidden_size": 21, "num_attention_heads": 3, "intermediate_size": 50, "embedding_size": 5},
    "groups": {"num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2},
    "uneven groups": {"num_hidden_layers": 18, "num_hidden_groups": 14},
    "true row for id 0": {"padding_idx": None},
    "no pooler": {"add_pooling_layer": False},
    "three types": {"type_vocab_size": 3, "vocab_size": 50},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return make_model(tmp_path_factory.mktemp("model"), config())


def with_masks(t: Tokens) -> Tokens:
    """As masks with holes leave it: row 0 without two columns, row 1 with position 0 as a query only."""
    keep = np.ones(len(t.input_ids), bool)
    keep[[2, 3]] = False
    first = t.row_starts[1]
    keep[first + 1] = False
    removed = np.array([0, *(np.cumsum(~keep))])
    key = t.masked_first.copy()
    key[1] = 1
    starts = (t.row_starts - removed[t.row_starts]).astype(np.int32)
    return Tokens(t.input_ids[keep], t.positions[keep], t.token_type_ids[keep], starts, key)


@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS.keys())
def test_the_engine_computes_albert(tmp_path: Path, changes: dict[str, Any]) -> None:
    model = make_model(tmp_path, config(**changes))
    pooler, h = model.config.add_pooling_layer, model.config.hidden_size
    batch = with_masks(tokens([11, 7, 1, 40]))
    wanted_hidden, wanted_pooled = reference(model, batch)
    results = []
    for isa in _native.isas():
        engine = model.engine(isa)
        if pooler:
            hidden, pooled = run(engine, h, batch)
            np.testing.assert_allclose(pooled, wanted_pooled, atol=2e-5)
            assert np.array_equal(run_pooled(engine, h, batch), pooled)
        else:
            hidden = np.zeros((4, batch.width, h), np.float32)
            arrays = (
                batch.input_ids,
                batch.positions,
                batch.token_type_ids,
                batch.row_starts,
                batch.masked_first,
            )
            engine.run(*arrays, hidden, None, 1)
            with pytest.raises(ValueError, match="no pooler"):
                engine.run(*arrays, None, np.zeros((4, h), np.float32), 1)
        np.testing.assert_allclose(hidden, wanted_hidden, atol=2e-5)
        results.append(hidden)
    assert all(np.array_equal(hidden, results[0]) for hidden in results)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=12), st.integers(1, 3), st.integers(0, 1000))
def test_a_row_has_the_same_bits_in_any_batch_and_on_any_threads(
    model: Model, lengths: list[int], threads: int, seed: int
) -> None:
    engine = model.engine()
    batch = tokens(lengths, seed)
    hidden, pooled = run(engine, 64, batch, threads)
    assert np.array_equal(run_pooled(engine, 64, batch, threads), pooled)
    for i, length in enumerate(lengths):
        alone_hidden, alone_pooled = run(engine, 64, row(batch, i))
        assert np.array_equal(alone_hidden[0], hidden[i, :length])
        assert np.array_equal(alone_pooled[0], pooled[i])


def test_long_batches_go_through_in_passes_with_the_same_bits(tmp_path: Path) -> None:
    model = make_model(tmp_path, config(num_hidden_layers=1))
    engine = model.engine()
    batch = tokens([512] * 100)  # 512 tokens x 100 rows x 2.4 KB: two passes of 64 MB
    hidden, pooled = run(engine, 64, batch, 2)
    for i in (0, 50, 99):
        alone_hidden, alone_pooled = run(engine, 64, row(batch, i))
        assert np.array_equal(alone_hidden[0], hidden[i])
        assert np.array_equal(alone_pooled[0], pooled[i])


def test_many_callers_at_once(model: Model) -> None:
    engine = model.engine()
    batches = [tokens([3 * i + 1, 40 - i], seed=i) for i in range(8)]
    expected = [run(engine, 64, batch) for batch in batches]

    def call(i: int) -> bool:
        results = [run(engine, 64, batches[i], threads=1 + (i + j) % 3) for j in range(20)]
        return all(
            np.array_equal(h, expected[i][0]) and np.array_equal(p, expected[i][1]) for h, p in results
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(call, range(8)))


@pytest.mark.alone  # how long another thread stands still
def test_run_releases_the_gil(model: Model) -> None:
    engine = model.engine()
    batch = tokens([200] * 100)
    span: list[float] = []

    def work() -> None:
        span.append(time.perf_counter())
        run(engine, 64, batch)
        span.append(time.perf_counter())

    worker = threading.Thread(target=work)
    worker.start()
    ticks = [time.perf_counter()]
    while worker.is_alive():
        time.sleep(0)
        ticks.append(time.perf_counter())
    worker.join()
    # Had the run held the GIL, this thread would have stood still for as long as it took.
    assert np.diff(ticks).max() < (span[1] - span[0]) / 2


ROUNDING_HOST = """
import ctypes, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, {tests!r})
from native.model import config, make_model, run, tokens
from albert_runtime import kernels
model = make_model(Path({folder!r}), config())
engine, batch = model.engine(), tokens([30, 5])
tiny = np.full((9, 300), 1e-20, np.float32), np.full((300, 70), 1e-20, np.float32)
def answers():
    found = [*run(engine, 64, batch, 1), *run(engine, 64, batch, 3)]
    found += [kernels.linear(*tiny, num_threads=t) for t in (1, 2)]
    return [*found, kernels.gelu(np.full(50, 1e-40, np.float32))]
expected = answers()
toward_zero = 0xC00
assert ctypes.CDLL("libm.so.6").fesetround(toward_zero) == 0
assert np.float32(1) + np.float32(2**-24) * np.float32(1.5) == 1, "the host's rounding did not change"
assert all(np.array_equal(a, b) for a, b in zip(expected, answers(), strict=True))
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the rounding mode's number is x86's")
def test_the_hosts_floating_point_state_changes_nothing(tmp_path: Path) -> None:
    script = ROUNDING_HOST.format(folder=str(tmp_path), tests=str(Path(__file__).parents[1]))
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, timeout=60)


def threads_alive() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def test_teams_of_sizes_no_longer_used_are_dismissed(model: Model) -> None:
    engine, batch = model.engine(), tokens([30])
    run(engine, 64, batch)
    before = threads_alive()
    for threads in range(1, 17):
        run(engine, 64, batch, threads)
    assert threads_alive() <= before + 16 + 2 * _native.available_cpus()
    with pytest.raises(ValueError, match="num_threads must be at most"):
        run(engine, 64, batch, 5000)


FORK = """
import os, sys
import numpy as np
sys.path.insert(0, {tests!r})
from native.model import config, make_model, run, tokens
from pathlib import Path
model = make_model(Path({folder!r}), config())
engine, batch = model.engine(), tokens([30, 5])
before = run(engine, 64, batch, 2)
pid = os.fork()
after = run(engine, 64, batch, 2)
same = all(np.array_equal(a, b) for a, b in zip(before, after))
if pid == 0:
    os._exit(0 if same else 1)
assert same and os.waitpid(pid, 0)[1] == 0
"""


def test_a_forked_child_can_run(tmp_path: Path) -> None:
    tests = str(Path(__file__).parents[1])
    script = FORK.format(folder=str(tmp_path), tests=tests)
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, timeout=60)


MEMORY = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from native.model import config, make_model, run, tokens
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
cfg = config(hidden_size=768, num_attention_heads=12, intermediate_size=3072, num_hidden_layers={layers})
model = make_model(Path({folder!r}), cfg)
model.values.clear()
before = resident()
engine = model.engine()
run(engine, 768, tokens([64]))
print(resident() - before, engine.packed_bytes)
"""


@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="a sanitizer's own memory would be measured")
def test_memory_does_not_grow_with_depth(tmp_path: Path) -> None:
    def growth(layers: int) -> list[int]:
        script = MEMORY.format(folder=str(tmp_path), layers=layers, tests=str(Path(__file__).parents[1]))
        done = subprocess.run(
            [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=120
        )
        return [int(n) for n in done.stdout.split()]

    (shallow, shallow_packed), (deep, deep_packed) = growth(6), growth(24)
    assert shallow_packed == deep_packed
    assert abs(deep - shallow) < 0.1 * shallow_packed
    assert deep < 1.5 * deep_packed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 0}, "out of range"),
        ({"vocab_size": -1}, "out of range"),
        ({"intermediate_size": 2**30}, "out of range"),
        ({"num_attention_heads": 3}, "not a multiple of num_attention_heads"),
        ({"num_hidden_groups": 99}, "more groups than layers"),
        ({"hidden_act": "swish"}, "hidden_act must be"),
        ({"hidden_size": 66}, "has another shape"),
        ({"num_hidden_groups": 2}, "albert_layer_groups.1.* is missing"),
        ({"isa": "mmx"}, "choose one of"),
        ({"tensors": {}}, "embeddings.word_embeddings.weight is missing"),
    ],
)
def test_configs_that_do_not_fit_are_refused(model: Model, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.engine(**changes)


def test_files_that_do_not_fit_are_refused(model: Model, tmp_path: Path) -> None:
    short = tmp_path / "short.bin"
    short.write_bytes(model.path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="ends before its tensors do"):
        model.engine(path=short)
    (tmp_path / "empty.bin").touch()
    with pytest.raises(ValueError, match="ends before its tensors do"):
        model.engine(path=tmp_path / "empty.bin")
    with pytest.raises(OSError, match=r"missing\.bin"):
        model.engine(path=tmp_path / "missing.bin")
    with pytest.raises(OSError, match="Invalid argument"):
        model.engine(path=tmp_path)
    far = {name: (dtype, 2**64 - 8, shape) for name, (dtype, _, shape) in model.tensors.items()}
    with pytest.raises(ValueError, match="ends before its tensors do"):
        model.engine(tensors=far)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("input_ids", 50, "outside the vocabulary"),
        ("input_ids", -1, "outside the vocabulary"),
        ("token_type_ids", 2, "type id is out of range"),
        ("positions", 512, "position is out of range"),
        ("positions", -1, "position is out of range"),
        ("masked_first", 2, "masked_first must be 0 or 1"),
        ("row_starts", 1, "row_starts"),
    ],
)
def test_tokens_out_of_range_are_refused(model: Model, field: str, value: int, message: str) -> None:
    batch = tokens([4, 3])
    getattr(batch, field)[0] = value
    hidden = np.zeros((2, 600, 64), np.float32)
    with pytest.raises(ValueError, match=message):
        model.engine().run(
            batch.input_ids,
            batch.positions,
            batch.token_type_ids,
            batch.row_starts,
            batch.masked_first,
            hidden,
            None,
            1,
        )


def test_arrays_that_do_not_fit_are_refused(model: Model) -> None:
    engine, t = model.engine(), tokens([4, 3])
    arrays = (t.input_ids, t.positions, t.token_type_ids, t.row_starts, t.masked_first)
    hidden, pooled = np.zeros((2, 4, 64), np.float32), np.zeros((2, 64), np.float32)
    with pytest.raises(ValueError, match=r"positions must have shape \[7\]"):
        engine.run(t.input_ids, t.positions[:-1], *arrays[2:], hidden, pooled, 1)
    with pytest.raises(ValueError, match="hidden must have shape"):
        engine.run(*arrays, hidden[:1], pooled, 1)
    with pytest.raises(ValueError, match="lies outside the output"):
        engine.run(*arrays, np.zeros((2, 3, 64), np.float32), pooled, 1)
    with pytest.raises(ValueError, match="pooled must have shape"):
        engine.run(*arrays, hidden, pooled[:, :63].copy(), 1)
    with pytest.raises(TypeError):
        engine.run(t.input_ids.astype(np.int64), *arrays[1:], hidden, pooled, 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        engine.run(*arrays, hidden[:, :, ::2], pooled, 1)
    with pytest.raises(ValueError, match="num_threads must be at least 1"):
        engine.run(*arrays, hidden, pooled, 0)
    with pytest.raises(ValueError, match="no token to attend to"):
        engine.run(*arrays[:3], np.array([0, 1, 7], np.int32), np.array([1, 0], np.int32), hidden, pooled, 1)
    with pytest.raises(ValueError, match="must not decrease"):
        engine.run(*arrays[:3], np.array([0, 9, 7], np.int32), t.masked_first, hidden, pooled, 1)
