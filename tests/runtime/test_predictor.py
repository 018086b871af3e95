"""Predictor on the C++ engine: options, outputs, threads, the same answer for every form of a batch."""

import asyncio
import json
import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import albert_runtime
from albert_runtime import AlbertError, ArtifactError, BackendError, InputError, Predictor
from albert_runtime.scheduler.scheduler import Scheduler

ROWS = [[5, 6, 7, 8, 9], [9], [4, 0, 2, 49]]
PADDED = {
    "input_ids": [[5, 6, 7, 8, 9], [9, 1, 1, 1, 1], [4, 0, 2, 49, 33]],
    "attention_mask": [[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 1, 1, 0]],
}


@pytest.fixture
def predictor(make_artifact, tokenizer_file):
    return Predictor(make_artifact(tokenizer=tokenizer_file), backend="native")


def assert_equal(left, right):
    assert list(left) == list(right)
    for name, values in left.items():
        np.testing.assert_array_equal(values, right[name], err_msg=name)


def test_importing_loads_nothing_but_numpy_and_the_extension():
    code = (
        "import sys, albert_runtime; from albert_runtime import Predictor; albert_runtime.kernels.gelu;"
        "print([m for m in ('onnxruntime', 'paddle', 'tokenizers', 'onnx', 'rich') if m in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


def test_the_package_names_what_it_has():
    assert albert_runtime.__version__.count(".") >= 2
    for name in albert_runtime.__all__:
        assert getattr(albert_runtime, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = albert_runtime.nonsense
    for error in (ArtifactError, BackendError, InputError):
        assert issubclass(error, AlbertError)


def test_outputs(predictor):
    answer = predictor.run(PADDED)
    assert list(answer) == ["last_hidden_state", "pooled_output"]
    hidden, pooled = answer.values()
    assert hidden.shape == (3, 5, 12)
    assert pooled.shape == (3, 12)
    for values in (hidden, pooled):
        assert type(values) is np.ndarray
        assert values.dtype == np.float32
        assert values.flags.c_contiguous
        assert values.flags.writeable
        assert values.flags.owndata
        assert np.isfinite(values).all()
    mask = np.array(PADDED["attention_mask"])
    assert not hidden[mask == 0].any()
    assert hidden[mask == 1].any(axis=1).all()


def test_some_outputs_in_the_order_asked_for(predictor):
    everything = predictor.run(ROWS)
    assert_equal(
        predictor.run(ROWS, outputs=["pooled_output"]), {"pooled_output": everything["pooled_output"]}
    )
    assert_equal(
        predictor.run(ROWS, ("last_hidden_state",)), {"last_hidden_state": everything["last_hidden_state"]}
    )
    both = predictor.run(ROWS, ["pooled_output", "last_hidden_state", "pooled_output"])
    assert list(both) == ["pooled_output", "last_hidden_state"]


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (["logits"], "output 'logits' is unknown; this model has last_hidden_state, pooled_output"),
        ([None], "output None is unknown"),
        ([], "outputs is empty; this model has last_hidden_state, pooled_output"),
        ("pooled_output", r"outputs must be a list of names; write outputs=\['pooled_output'\]"),
        (7, "outputs must be a list of names, not int"),
        ([["pooled_output"]], "is unknown"),
    ],
)
def test_bad_outputs(predictor, outputs, message):
    with pytest.raises(InputError, match=message):
        predictor.run(ROWS, outputs=outputs)


def test_without_a_pooler(make_artifact):
    predictor = Predictor(make_artifact(add_pooling_layer=False))
    assert list(predictor.run(ROWS)) == ["last_hidden_state"]
    with pytest.raises(
        InputError, match="output 'pooled_output' is unknown; this model has last_hidden_state"
    ):
        predictor.run(ROWS, outputs=["pooled_output"])


def test_every_form_gives_the_same_bits(predictor):
    expected = predictor.run(PADDED)
    assert_equal(predictor.run(ROWS), expected)
    assert_equal(predictor.run([np.array(row) for row in ROWS]), expected)
    assert_equal(predictor.run({name: np.array(value, np.int8) for name, value in PADDED.items()}), expected)
    float_mask = np.array(PADDED["attention_mask"], np.float16)
    assert_equal(predictor.run({**PADDED, "attention_mask": float_mask}), expected)


def test_a_row_does_not_depend_on_its_batch(predictor):
    together = predictor.run(ROWS)
    for index, row in enumerate(ROWS):
        alone = predictor.run([row])
        np.testing.assert_array_equal(alone["pooled_output"][0], together["pooled_output"][index])
        np.testing.assert_array_equal(
            alone["last_hidden_state"][0], together["last_hidden_state"][index, : len(row)]
        )


def test_a_missing_mask_comes_from_the_pad_id(make_artifact):
    predictor = Predictor(make_artifact(pad_token_id=3))
    ids = np.array([[5, 0, 7, 3, 3], [3, 3, 6, 7, 8]])
    assert_equal(
        predictor.run({"input_ids": ids}), predictor.run({"input_ids": ids, "attention_mask": ids != 3})
    )
    first = predictor.run([[5, 0, 7]])
    np.testing.assert_array_equal(
        predictor.run({"input_ids": ids})["pooled_output"][0], first["pooled_output"][0]
    )


def test_masked_position_0_is_a_query_that_nobody_attends_to(predictor):
    ids, mask = np.array([[5, 6, 7, 8]]), np.array([[0, 1, 1, 1]])
    answer = predictor.run({"input_ids": ids, "attention_mask": mask})
    ids[0, 0] = 40
    other = predictor.run({"input_ids": ids, "attention_mask": mask})
    np.testing.assert_array_equal(answer["last_hidden_state"], other["last_hidden_state"])
    assert not answer["last_hidden_state"][0, 0].any()
    assert np.abs(answer["pooled_output"] - other["pooled_output"]).max() > 1e-3


def test_token_types_count(predictor):
    ids = [[5, 6, 7]]
    plain = predictor.run({"input_ids": ids})
    assert_equal(predictor.run({"input_ids": ids, "token_type_ids": [[0, 0, 0]]}), plain)
    typed = predictor.run({"input_ids": ids, "token_type_ids": [[0, 1, 1]]})
    assert np.abs(typed["pooled_output"] - plain["pooled_output"]).max() > 1e-3


def test_texts_and_pairs(predictor):
    assert_equal(predictor.run(["a b c", "b"]), predictor.run([[2, 5, 6, 7, 3], [2, 6, 3]]))
    assert_equal(predictor.run("b"), predictor.run([[2, 6, 3]]))
    pair = {"input_ids": [[2, 5, 3, 6, 3]], "token_type_ids": [[0, 0, 0, 1, 1]]}
    assert_equal(predictor.run([("a", "b")]), predictor.run(pair))
    assert predictor.info()["tokenizer"] is True


def test_texts_without_a_tokenizer(make_artifact):
    with pytest.raises(
        InputError, match="this artifact has none; pass token ids, or export again from a model"
    ):
        Predictor(make_artifact()).run(["a"])


def test_truncate(predictor):
    long = list(range(1, 16))
    with pytest.raises(InputError, match=r"row 1 is 15 tokens long, .* is 10; shorten it or set truncate"):
        predictor.run([[5], long])
    assert_equal(predictor.run([[5], long], truncate=True), predictor.run([[5], long[:10]]))
    with pytest.raises(InputError, match="row 0 is 22 tokens long"):
        predictor.run("a " * 20)
    assert_equal(predictor.run("a " * 20, truncate=True), predictor.run([[2, *[5] * 8, 3]]))


def test_masked_columns_beyond_the_last_position(predictor):
    ids = np.zeros((1, 30), int)
    ids[0, :3] = [5, 6, 7]
    answer = predictor.run({"input_ids": ids})
    assert answer["last_hidden_state"].shape == (1, 30, 12)
    np.testing.assert_array_equal(answer["pooled_output"], predictor.run([[5, 6, 7]])["pooled_output"])


def test_eight_threads_on_one_predictor(make_artifact):
    predictor = Predictor(make_artifact(), backend="native", num_threads=2)
    generator = np.random.default_rng(0)
    batches = [
        [
            generator.integers(0, 50, generator.integers(1, 11)).tolist()
            for _ in range(generator.integers(1, 9))
        ]
        for _ in range(40)
    ]
    expected = [predictor.run(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(predictor.run, batches * 5))
    for index, answer in enumerate(answers):
        assert_equal(answer, expected[index % len(batches)])


def test_the_number_of_threads_changes_no_bit(make_artifact):
    manifest = make_artifact()
    expected = Predictor(manifest, num_threads=1).run(ROWS)
    for threads in (2, 3, 5):
        predictor = Predictor(manifest, num_threads=threads)
        assert predictor.info()["num_threads"] == threads
        assert_equal(predictor.run(ROWS), expected)


@pytest.mark.parametrize("threads", [0, -1, 1.0, True, "2", 10**6])
def test_bad_numbers_of_threads(make_artifact, threads):
    with pytest.raises(BackendError, match=r"num_threads is .*; give a whole number from 1 to 1024, or None"):
        Predictor(make_artifact(), num_threads=threads)


def test_precision(make_artifact):
    manifest = make_artifact()
    exact = Predictor(manifest).run(ROWS)["last_hidden_state"]
    assert Predictor(manifest, precision="fp32").info()["precision"] == "fp32"
    errors = {}
    for precision in ("bf16", "int8"):
        predictor = Predictor(manifest, precision=precision)
        assert predictor.info()["precision"] == precision
        answer = predictor.run(ROWS)["last_hidden_state"]
        assert answer.dtype == np.float32
        errors[precision] = np.abs(answer - exact).max()
    assert 1e-4 < errors["bf16"] < 0.1
    assert 1e-4 < errors["int8"] < 0.3
    with pytest.raises(
        BackendError, match="precision 'int4' is unknown; choose one of auto, fp32, tf32, fp16, bf16, int8"
    ):
        Predictor(manifest, precision="int4")
    with pytest.raises(
        BackendError,
        match="onnxruntime does not run tiny, exported in fp32, in int8; use backend='gpu' or backend='",
    ):
        Predictor(manifest, precision="int8", backend="onnxruntime")


def test_precisions_share_nothing_and_each_is_packed_once(make_artifact):
    manifest = make_artifact()
    predictors = {p: Predictor(manifest, precision=p) for p in ("fp32", "bf16", "int8")}
    sizes = {p: predictor.info()["packed_bytes"] for p, predictor in predictors.items()}
    assert sizes["int8"] < sizes["bf16"] < sizes["fp32"]
    for precision, predictor in predictors.items():
        assert (
            Predictor(manifest, precision=precision)._model.backend._engine
            is predictor._model.backend._engine
        )


def test_unknown_backend(make_artifact):
    with pytest.raises(
        BackendError, match="backend 'cuda9' is unknown; choose one of auto, tensorrt, gpu, cuda, native"
    ):
        Predictor(make_artifact(), backend="cuda9")


def test_info_is_json(predictor):
    info = json.loads(json.dumps(predictor.info()))
    assert info["backend"] == predictor.backend == "native"
    assert info["name"] == "tiny"
    assert info["isa"] == albert_runtime._native.default_isa()
    assert info["packed_bytes"] > 0
    assert info["config"] == predictor.manifest.config.to_dict()
    assert info["files"]["weights"].endswith("tiny.pdiparams")
    assert info["skipped"] == {}  # asked for by name
    assert info["notes"] == []
    assert "tiny" in repr(predictor)
    assert "native" in repr(predictor)


def test_verify(make_artifact):
    manifest = make_artifact()
    assert Predictor(manifest, verify=True).run(ROWS)
    manifest.with_name("tiny.onnx").write_bytes(b"no graph"[::-1])
    Predictor(manifest)  # the engine reads no graph
    with pytest.raises(ArtifactError, match=r"tiny\.onnx is corrupted"):
        Predictor(manifest, verify=True)


def test_no_warning_where_a_manifest_is(make_artifact, caplog):
    with caplog.at_level(logging.WARNING, "albert_runtime"):
        Predictor(make_artifact())
    assert not caplog.records


@pytest.mark.parametrize("batch", [ROWS, {"input_ids": np.array([[3, 4, 0], [5, 0, 0]])}])
def test_a_packed_batch_runs_as_what_it_was_made_of(make_artifact, batch):
    with Predictor(make_artifact()) as predictor:
        packed, expected = predictor.pack(batch), predictor.run(batch)
        assert_equal(predictor.run(packed), expected)
        assert_equal(predictor.submit(packed).result(10), expected)
        assert_equal(asyncio.run(predictor.arun(packed)), expected)
    assert packed.tokens == (10 if batch is ROWS else 3)


def test_packing_checks_and_cuts(make_artifact):
    predictor = Predictor(make_artifact())
    with pytest.raises(InputError, match="row 0, column 1: input_ids holds 70"):
        predictor.pack([[1, 70]])
    with pytest.raises(InputError, match="row 0 is 12 tokens long"):
        predictor.pack([[1] * 12])
    assert predictor.pack([[1] * 12], truncate=True).tokens == 10


def test_a_packed_batch_of_choices_and_of_positions(make_artifact, tmp_path):
    questions = [[[1, 2], [3]], [[4], [5, 6, 7]]]
    chooser = Predictor(make_artifact(task="multiple-choice"))
    packed = chooser.pack(questions)
    assert packed.choices == 2
    assert np.array_equal(chooser.run(packed)["logits"], chooser.run(questions)["logits"])
    scorer = Predictor(make_artifact(folder=tmp_path / "lm", task="masked-lm"))
    found = scorer.run(scorer.pack(ROWS), positions=[[0]] * len(ROWS))
    expected = scorer.run(ROWS, positions=[[0]] * len(ROWS))
    assert np.array_equal(found["prediction_scores"], expected["prediction_scores"])


def test_the_scheduler_is_the_callers_choice(make_artifact):
    made = []

    def scheduler(run, **options):
        made.append(Scheduler(run, patience=0.0, **options))
        return made[-1]

    with Predictor(make_artifact(), scheduler=scheduler, max_queue=7) as predictor:
        assert [predictor.scheduler] == made
        batches = []
        predictor.scheduler.observers.append(batches.append)
        predictor.submit(ROWS).result(10)
    assert sum(one.rows for one in batches) == len(ROWS)


@pytest.mark.parametrize(
    ("changes", "needle"),
    [
        ({"input_ids": [1, 70, 2]}, "input_ids must be from 0 to "),
        ({"input_ids": [1, -1, 2]}, "input_ids must be from 0 to "),
        ({"token_type_ids": [0, 9, 0]}, "token_type_ids must be from 0 to 1"),
        ({"positions": [0, 1, 40]}, "positions must be from 0 to "),
        ({"row_starts": [0, 2]}, "do not fit together"),
        ({"row_starts": [0, 0, 3]}, "do not fit together"),
        ({"masked_first": [0, 0]}, "do not fit together"),
        ({"choices": 2}, "do not fit together"),
    ],
)
def test_a_packed_batch_that_the_model_cannot_take(predictor, changes, needle):
    packed = predictor.pack([[1, 5, 2]])
    arrays = {
        name: np.array(value, np.int32) if isinstance(value, list) else value
        for name, value in changes.items()
    }
    with pytest.raises(InputError, match=needle):
        predictor.run(replace(packed, **arrays))
