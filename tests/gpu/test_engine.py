"""On a real GPU: our engine. Its kernels and passes are tested on it by tests/runtime/gpu too."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from albert_runtime import BackendError, InputError, Predictor
from albert_runtime.artifact.tasks import MASKED_LM, Head

from .conftest import LEAST_COSINE, ROWS, closest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")
pytestmark = pytest.mark.alone  # there is one GPU

PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8")


def rows_of(*lengths):
    generator = np.random.default_rng(sum(lengths))
    return [generator.integers(5, 20000, length).tolist() for length in lengths]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("variant", ["albert-base-v2", "albert-chinese-tiny", "albert-base-v1"])
def test_it_answers_as_the_cpu_engine(artifact, variant, precision):
    path = artifact(variant)
    expected = Predictor(path, backend="native").run(ROWS)
    found = Predictor(path, backend="gpu", precision=precision).run(ROWS)
    assert closest(expected, found) > LEAST_COSINE[precision]
    if precision == "fp32":
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, atol=1e-4)


def test_auto_takes_it(artifact):
    predictor = Predictor(artifact("albert-chinese-tiny"))
    assert predictor.backend == "gpu", predictor.info()["skipped"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_row_has_the_same_bits_alone_in_any_batch_and_place(artifact, precision):
    """In a graph of few tokens, in one of many, and without a graph."""
    predictor = Predictor(artifact("albert-base-v2", layers=4), backend="gpu", precision=precision)
    rows = rows_of(1, 16, 17, 64, 65, 128, 200, 512)
    many = rows_of(*range(100, 130))  # 3,435 tokens
    whole = predictor.run([*rows, *many, *many], outputs=["last_hidden_state", "pooled_output"])
    backwards = predictor.run([*many, *rows[::-1]])
    pooled_only = predictor.run([*many, *rows], outputs=["pooled_output"])["pooled_output"]
    for repeat in range(2):  # run first, then replayed
        for at, row in enumerate(rows):
            alone = predictor.run([row])
            state, pooled = alone["last_hidden_state"][0], alone["pooled_output"][0]
            np.testing.assert_array_equal(whole["last_hidden_state"][at, : len(row)], state, str(repeat))
            np.testing.assert_array_equal(whole["pooled_output"][at], pooled)
            np.testing.assert_array_equal(backwards["last_hidden_state"][-1 - at, : len(row)], state)
            np.testing.assert_array_equal(pooled_only[len(many) + at], pooled)
            only = predictor.run([row], outputs=["pooled_output"])["pooled_output"][0]
            np.testing.assert_array_equal(only, pooled)


def test_masked_lm(artifact):
    path = artifact("albert-base-v2", layers=2, head=Head(MASKED_LM, tied_decoder=True))
    positions = [[3, 0], [1], [], [2, 2], [4]]
    expected = Predictor(path, backend="native").run(ROWS, positions=positions)
    found = Predictor(path, backend="gpu").run(ROWS, positions=positions)
    np.testing.assert_allclose(found["prediction_scores"], expected["prediction_scores"], atol=1e-3)


def batch_of(rows):
    width = max(map(len, rows))
    ids = np.array([row + [0] * (width - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": (ids != 0).astype(np.int64)}


def test_arrays_on_the_gpu(artifact):
    predictor = Predictor(artifact("albert-chinese-tiny"), backend="gpu")
    batch = batch_of(ROWS)
    expected = predictor.run(batch)
    on_gpu = {name: torch.from_numpy(values).cuda() for name, values in batch.items()}
    found = predictor.run(on_gpu)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    on_gpu["input_ids"][1, 2] = 10**12
    with pytest.raises(InputError, match="row 1, column 2: input_ids holds 1000000000000, allowed are"):
        predictor.run(on_gpu)
    on_gpu["input_ids"][1, 2] = 3
    predictor.run(on_gpu)


def test_arrays_are_awaited(artifact):
    """Made on another stream, and not ready when run is called."""
    predictor = Predictor(artifact("albert-chinese-tiny"), backend="gpu")
    ids, mask = torch.full((8, 32), 7).cuda(), torch.ones((8, 32), dtype=torch.int64).cuda()
    expected = predictor.run({"input_ids": ids.cpu().numpy() + 5})
    slow = torch.randn(8192, 8192, device="cuda")
    with torch.cuda.stream(torch.cuda.Stream()):
        for _ in range(10):
            slow = slow @ slow
        ids += 5
        found = predictor.run({"input_ids": ids, "attention_mask": mask})
    np.testing.assert_array_equal(found["pooled_output"], expected["pooled_output"])


class Elsewhere:
    """An array of a library with a current stream of its own, as cupy's."""

    def __init__(self, tensor, stream):
        self._tensor, self._stream = tensor, stream

    def __dlpack_device__(self):
        return self._tensor.__dlpack_device__()

    def __dlpack__(self, *, stream=None, **options):
        torch.cuda.ExternalStream(stream).wait_stream(self._stream)
        return self._tensor.__dlpack__(stream=-1, **options)


def test_arrays_of_other_libraries_are_awaited(artifact):
    predictor = Predictor(artifact("albert-chinese-tiny"), backend="gpu")
    ids = np.full((8, 32), 12)
    expected = predictor.run({"input_ids": ids})
    slow = torch.randn(8192, 8192, device="cuda")
    on_gpu, mask = torch.from_numpy(ids).cuda(), torch.zeros((8, 32), dtype=torch.int64, device="cuda")
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(10):
            slow = slow @ slow
        mask += 1
    found = predictor.run({"input_ids": on_gpu, "attention_mask": Elsewhere(mask, stream)})
    np.testing.assert_array_equal(found["pooled_output"], expected["pooled_output"])


def test_engines_capture_beside_each_other(artifact):
    """Two engines, new shapes in each, large results that come and go in other threads."""
    predictors = [
        Predictor(artifact("albert-chinese-tiny"), backend="gpu", precision=precision)
        for precision in ("fp16", "bf16")
    ]
    rows = rows_of(*range(1, 60, 4))

    def run(predictor):
        for count in range(1, len(rows)):
            predictor.run(rows[:count])
            predictor.run(rows_of(*[512] * 8))  # more than is moved out of pinned memory

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(run, predictors * 3))
    for predictor in predictors:
        alone, among = predictor.run(rows[-1:]), predictor.run(rows)
        np.testing.assert_array_equal(among["pooled_output"][-1:], alone["pooled_output"])


def test_many_threads(artifact):
    predictor = Predictor(artifact("albert-chinese-tiny"), backend="gpu")
    rows = rows_of(*range(1, 60))
    expected = [predictor.run([row])["pooled_output"] for row in rows]
    with ThreadPoolExecutor(8) as pool:
        ran = list(pool.map(lambda row: predictor.run([row])["pooled_output"], rows))
        submitted = list(pool.map(lambda row: predictor.submit([row]).result()["pooled_output"], rows))
    for at, values in enumerate(expected):
        np.testing.assert_array_equal(ran[at], values)
        np.testing.assert_array_equal(submitted[at], values)


def test_the_process_lives_on_when_memory_runs_out(artifact):
    predictor = Predictor(artifact("albert-base-v2", layers=2), backend="gpu", precision="bf16")
    rows = rows_of(*[512] * 128)
    expected = predictor.run(rows[:1], outputs=["pooled_output"])["pooled_output"]
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    hoard = torch.empty(free - (256 << 20), dtype=torch.uint8, device="cuda")
    with pytest.raises(BackendError, match=r"out of GPU memory on a batch of 65536 tokens: \d+ of \d+ MiB"):
        predictor.run(rows, outputs=["pooled_output"])
    del hoard
    torch.cuda.empty_cache()
    found = predictor.run(rows, outputs=["pooled_output"])["pooled_output"]
    np.testing.assert_array_equal(found[:1], expected)
