"""Batches that are on a GPU already (DLPack), with a GPU faked at its boundary."""

import numpy as np
import pytest

from albert_runtime import BackendError, InputError, Predictor

from .fake_gpu import GpuArray

IDS = [[5, 6, 7, 0, 0], [9, 8, 9, 8, 9], [0, 0, 4, 5, 6]]
MASK = [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 1, 1, 1]]
TYPES = [[0, 0, 1, 0, 0], [0, 1, 1, 1, 1], [0, 0, 0, 1, 1]]


@pytest.fixture(scope="module")
def program(export_artifact, golden):
    return export_artifact(golden / "question-answering")


@pytest.fixture(scope="module")
def choices(export_artifact, golden):
    return export_artifact(golden / "multiple-choice")


@pytest.fixture(params=["cuda", "tensorrt"])
def predictor(request, program, runtime):
    found = Predictor(program, backend=request.param, max_batch=2, max_length=16)
    runtime.bindings.clear()
    return found


def on_gpu(**arrays):
    return {name: GpuArray(values) for name, values in arrays.items()}


@pytest.mark.parametrize("types", [None, TYPES])
def test_they_are_read_where_they_are(program, runtime, predictor, types):
    batch = {"input_ids": IDS, "attention_mask": MASK, **({} if types is None else {"token_type_ids": types})}
    expected = Predictor(program, backend="native").run(batch)
    answer = predictor.run(on_gpu(**batch))
    assert list(answer) == list(expected)
    for name, values in answer.items():  # the zeros and -10000 of masked positions too
        np.testing.assert_allclose(values, expected[name], atol=2e-5)
    for binding in runtime.bindings:
        assert binding.bound_on_gpu == list(batch) and binding.synchronized
    assert len(runtime.bindings) == (2 if predictor.backend == "tensorrt" else 1)  # max_batch


def test_choices(choices, runtime):
    batch = {"input_ids": [IDS[:2], IDS[1:]], "attention_mask": [MASK[:2], MASK[1:]]}
    expected = Predictor(choices, backend="native").run(batch)["logits"]
    answer = Predictor(choices, backend="cuda").run(on_gpu(**batch))["logits"]
    np.testing.assert_allclose(answer, expected, atol=2e-5)


GOOD = on_gpu(input_ids=IDS, attention_mask=MASK)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"attention_mask": None}, {}, "needs attention_mask there; give input_ids and attention_mask"),
        ({"attention_mask": np.array(MASK)}, {}, "attention_mask is not on the GPU, others are"),
        ({"ids": GpuArray(IDS)}, {}, "unknown key 'ids'"),
        ({"input_ids": GpuArray(IDS, np.int32)}, {}, "input_ids on a GPU must hold int64, not tensor.int32"),
        ({"input_ids": GpuArray(IDS)[:, :3]}, {}, "input_ids cannot be read where it is, on the GPU"),
        (
            {"input_ids": GpuArray(IDS)[:, 0:1][:, [0]]},
            {},
            r"input_ids has shape \[[23], 1\], attention_mask has \[",
        ),
        ({"attention_mask": GpuArray(np.multiply(MASK, 2))}, {}, "row 0, column 0: attention_mask holds 2"),
        ({"attention_mask": GpuArray(np.zeros((3, 5)))}, {}, "row 0 has no unmasked token"),
        ({}, {"truncate": True}, "truncate and positions are for batches on the CPU"),
    ],
)
def test_what_is_wrong_with_them(predictor, change, options, message):
    with pytest.raises(InputError, match=message):
        predictor.run({**GOOD, **change}, **options)


def test_a_backend_on_the_cpu_says_so(program):
    with pytest.raises(InputError, match="the batch is on a GPU, which backend 'native' does not read"):
        Predictor(program, backend="native").run(GOOD)


def test_an_onnxruntime_without_dlpack(program, runtime, predictor):
    class Older:
        """OrtValue before 1.27."""

    predictor._model.backend._values = Older
    with pytest.raises(BackendError, match="reads no arrays on a GPU"):
        predictor.run(GOOD)
