"""ONNX Runtime and Paddle Inference on exported artifacts, held against the C++ engine."""

import logging
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from albert_runtime import BackendError, InputError, Predictor
from albert_runtime.backends.padded import PaddedBackend

TOLERANCE = 2e-5
OTHERS = ("onnxruntime", "paddle")


@pytest.fixture(scope="module", params=["pdmodel", "json"])
def program(request, export_artifact):
    """The program of an exported model, in each of Paddle's two formats."""
    return export_artifact("albert-chinese-tiny", small_layers=2, format=request.param)


@pytest.fixture(scope="module")
def predictors(program):
    return {name: Predictor(program, backend=name, verify=True) for name in ("native", *OTHERS)}


@pytest.fixture(scope="module")
def mixed_batch():
    """Holes, left and right padding, masked positions 0, nonsense under the mask."""
    generator = np.random.default_rng(5)
    ids = generator.integers(1, 21128, (9, 30))
    mask = generator.integers(0, 2, (9, 30))
    mask[0] = 1
    mask[1, :10], mask[1, 10:] = 0, 1
    mask[2, :10], mask[2, 10:] = 1, 0
    mask[:, 12] = 1
    mask[3:, 27:] = 0
    types = generator.integers(0, 2, (9, 30))
    nonsense = np.where(mask == 1, ids, -5)
    nonsense[:, 0] = ids[:, 0]
    return {"input_ids": nonsense, "attention_mask": mask, "token_type_ids": types}


def assert_close(answer, expected):
    assert list(answer) == list(expected)
    for name, values in answer.items():
        assert values.shape == expected[name].shape
        assert values.dtype == np.float32
        assert values.flags.c_contiguous
        assert values.flags.writeable
        np.testing.assert_allclose(values, expected[name], rtol=0, atol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("name", OTHERS)
def test_the_answers_of_the_engine(predictors, mixed_batch, name):
    expected = predictors["native"].run(mixed_batch)
    answer = predictors[name].run(mixed_batch)
    assert_close(answer, expected)
    assert not answer["last_hidden_state"][mixed_batch["attention_mask"] == 0].any()
    assert_close(
        predictors[name].run(mixed_batch, outputs=["pooled_output"]),
        {"pooled_output": expected["pooled_output"]},
    )


@pytest.mark.parametrize("name", OTHERS)
def test_long_batches_go_through_in_passes(predictors, mixed_batch, monkeypatch, name):
    expected = predictors["native"].run(mixed_batch)
    for cap in (1, 60, 100):
        monkeypatch.setattr(PaddedBackend, "tokens_per_pass", cap)
        assert_close(predictors[name].run(mixed_batch), expected)


@pytest.mark.parametrize("name", OTHERS)
def test_the_last_position_and_columns_beyond_it(predictors, name):
    ids = np.zeros((2, 600), int)
    ids[0, :512] = 7
    ids[1, :3] = 8
    assert_close(predictors[name].run({"input_ids": ids}), predictors["native"].run({"input_ids": ids}))
    ids[1, :513] = 8
    with pytest.raises(InputError, match="row 1 is 513 tokens long, max_position_embeddings is 512"):
        predictors[name].run({"input_ids": ids})


@pytest.mark.parametrize("name", OTHERS)
def test_eight_threads_on_one_predictor(predictors, name):
    generator = np.random.default_rng(1)
    batches = [
        [generator.integers(0, 21128, generator.integers(1, 40)).tolist() for _ in range(rows)]
        for rows in (1, 2, 3, 4, 5, 6, 7, 8)
    ]
    expected = [predictors[name].run(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(predictors[name].run, batches * 4))
    for index, answer in enumerate(answers):
        for output, values in expected[index % 8].items():
            np.testing.assert_array_equal(answer[output], values)


@pytest.mark.parametrize("name", OTHERS)
def test_info(predictors, name):
    info = predictors[name].info()
    assert info["backend"] == name
    assert info["version"][0].isdigit()
    assert info["outputs"] == ["last_hidden_state", "pooled_output"]


@pytest.fixture
def bare(program, tmp_path):
    """The program in a folder where its manifest is not."""
    for path in program.parent.iterdir():
        if not path.name.endswith(".manifest.json"):
            shutil.copy(path, tmp_path)
    return tmp_path / program.name


@pytest.mark.parametrize("name", OTHERS)
def test_a_program_without_manifest_runs_and_says_so(bare, predictors, mixed_batch, caplog, name):
    path = bare.with_suffix(".onnx") if name == "onnxruntime" else bare
    with caplog.at_level(logging.WARNING, "albert_runtime"):
        predictor = Predictor(path, backend=name)
    assert f"has no {bare.stem}.manifest.json: running on {name} without the C++ engine" in caplog.text
    assert predictor.manifest is None
    assert predictor.info()["config"] is None
    assert "limits on ids are unknown" in predictor.info()["notes"][0]
    answer = predictor.run(mixed_batch)
    expected = predictors["native"].run(mixed_batch)
    for values, right in zip(answer.values(), expected.values(), strict=True):
        np.testing.assert_allclose(values, right, rtol=0, atol=TOLERANCE)
    with pytest.raises(BackendError, match="failed on this batch"):
        predictor.run([[30000]])
    assert predictor.run([[5]])  # and goes on


def test_auto_without_manifest_says_what_it_skipped(bare):
    predictor = Predictor(bare)
    assert predictor.backend == "onnxruntime"
    assert f"needs {bare.stem}.manifest.json" in predictor.info()["skipped"]["native"]
    with pytest.raises(
        BackendError, match=r"the C\+\+ engine needs .*\.manifest\.json; export the model again"
    ):
        Predictor(bare, backend="native")
