"""Artifacts of 8 bits: what is stored, the ranges by depth, who computes it, and the calibration text."""

import json
from collections import Counter
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from albert_export.calibration import SHIPPED, batches_of, calibrate_on
from albert_export.errors import ExportError
from albert_export.pipeline.report import Report
from albert_export.precision import PRECISIONS, dtypes, quantize, stored_shapes
from albert_runtime import Predictor
from albert_runtime.artifact.config import LAYERS
from albert_runtime.artifact.tasks import Head

from .machine import BACKENDS

INT8 = PRECISIONS["int8"]
SMALL_MODEL = Path(__file__).resolve().parents[2] / "models" / "python-albert"
CASES = ["model-gelu", "model-relu", "model-groups", "masked-lm", "token-classification", "multiple-choice"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory, golden):
    """exported(case, *options) -> path of the program, made once; weights are random unless options say."""
    from albert_export.cli import main

    made = {}

    def export(case, *options):
        if (case, *options) not in made:
            folder = tmp_path_factory.mktemp("int8")
            arguments = [str(golden / case), "--random-weights", "5", "-o", str(folder), *options]
            assert main([*arguments, "--quiet"]) == 0
            (manifest,) = folder.glob("*.manifest.json")
            made[(case, *options)] = manifest
        return made[(case, *options)]

    return export


def inputs_of(golden, case):
    with np.load(golden / case / "io.npz") as stored:
        return {name: stored[name] for name in ("input_ids", "attention_mask", "token_type_ids")}


@pytest.mark.parametrize("case", CASES)
def test_every_backend_answers_closely(exported, golden, case):
    batch = inputs_of(golden, case)
    exact = Predictor(exported(case), backend="native").run(batch)
    for backend in BACKENDS:
        answer = Predictor(exported(case, "--int8"), backend=backend).run(batch)
        assert list(answer) == list(exact)
        for name, values in answer.items():
            error = np.sqrt(np.mean((values - exact[name]) ** 2) / np.mean(exact[name] ** 2))
            assert 0 < error < 2**-5


def test_what_is_stored_and_recorded(exported):
    manifest = Predictor(exported("masked-lm", "--int8")).manifest
    assert manifest.precision == "int8" and manifest.name == "masked-lm-int8"
    types, shapes = (f(manifest.config, manifest.head, INT8) for f in (dtypes, stored_shapes))
    assert {tensor.name: tensor.dtype for tensor in manifest.tensors} == types
    assert {tensor.name: tensor.shape for tensor in manifest.tensors} == shapes
    integers = [name for name, dtype in types.items() if dtype == "int8"]
    assert len(integers) == 6 + 3  # a layer's, and word table, mapping, the head's
    record = manifest.verification
    assert record["least_typical_cosine"] == 0.99 and tuple(record["backends"]) == BACKENDS
    assert list(record["depths"]) == ["native", "onnxruntime"]
    for outputs in (*record["backends"].values(), *record["depths"].values()):
        assert all(errors["max_abs"] > 0 and errors["cosine"] > 0.99 for errors in outputs.values())
    assert manifest.calibration["text"] == "random ids" and manifest.calibration["unknown"] == 0


def graph_of(manifest_path):
    return onnx.load(str(manifest_path).replace(".manifest.json", ".onnx"), load_external_data=False).graph


def test_each_matrix_is_one_int8_initializer_and_each_depth_has_its_ranges(exported):
    graph = graph_of(exported("model-gelu", "--int8"))
    config = Predictor(exported("model-gelu", "--int8")).manifest.config
    initializers = {item.name: item for item in graph.initializer}
    kinds = Counter(node.op_type for node in graph.node)
    layers = config.num_hidden_layers
    assert kinds["QuantizeLinear"] == 6 * layers
    assert kinds["DequantizeLinear"] == (6 + 6) * layers + 2  # and mapping, pooler
    assert not kinds["Identity"] and not kinds["Constant"]
    made = {node.output[0]: node for node in graph.node}
    for node in graph.node:
        if (
            node.op_type == "MatMul"
            and node.input[1] in made
            and made[node.input[1]].op_type == "DequantizeLinear"
        ):
            matrix = made[node.input[1]].input[0]
            assert initializers[matrix].data_type == onnx.TensorProto.INT8
            assert matrix in dtypes(config, Head(), INT8)
            # The layers' matrices alone multiply rounded activations.
            rounded = made[node.input[0]].op_type == "DequantizeLinear"
            assert rounded == matrix.startswith(LAYERS)
    scales = [
        float(onnx.numpy_helper.to_array(initializers[node.input[1]]))
        for node in graph.node
        if node.op_type == "QuantizeLinear"
    ]
    assert len(set(scales)) == 6 * layers and min(scales) > 0


def test_onnx_runtime_fuses_every_product_of_the_layers(exported, tmp_path):
    path = str(exported("model-gelu", "--int8")).replace(".manifest.json", ".onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    optimized = onnx.load(str(tmp_path / "optimized.onnx"), load_external_data=False)
    kinds = Counter(node.op_type for node in optimized.graph.node)
    assert kinds["MatMulIntegerToFloat"] == 6 * 3


def test_a_range_is_the_greatest_input_on_the_text(exported, golden):
    """What the matrices of layer 1 multiply first is what a model of one layer less gives."""
    graph = graph_of(exported("model-gelu", "--int8"))
    scale = next(item for item in graph.initializer if item.name == "constant/layer1/attention/query_scale")
    found = 127 * float(onnx.numpy_helper.to_array(scale))
    fp32 = Predictor(exported("model-gelu"), backend="onnxruntime")
    config = fp32.manifest.config
    rows = calibrate_on(None, None, config, random=True).rows
    # The fp32 graph, asked for the hidden states after its first layer.
    path = exported("model-gelu").with_name("model-gelu.onnx")
    model = onnx.load(str(path), load_external_data=False)
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info("layer0/output_norm"))
    inner = path.with_name("inner.onnx")
    inner.write_bytes(model.SerializeToString())
    session = onnxruntime.InferenceSession(str(inner), providers=["CPUExecutionProvider"])
    greatest = max(np.abs(session.run(["layer0/output_norm"], row)[0]).max() for row in rows)
    assert found == pytest.approx(greatest, rel=1e-4)


def test_the_engine_computes_what_it_is_asked_for(exported, golden):
    batch = inputs_of(golden, "model-gelu")
    answers = {}
    for precision in ("auto", "int8", "bf16", "fp32"):
        predictor = Predictor(exported("model-gelu", "--int8"), precision=precision)
        assert predictor.info()["computes"] == precision.replace("auto", "int8")
        answers[precision] = predictor.run(batch)["last_hidden_state"]
    assert np.array_equal(answers["auto"], answers["int8"])
    # In fp32 it is what Paddle computes: the integers times their scales.
    paddle = Predictor(exported("model-gelu", "--int8"), backend="paddle").run(batch)["last_hidden_state"]
    assert np.abs(answers["fp32"] - paddle).max() < 2e-5 < np.abs(answers["int8"] - paddle).max()


def test_the_other_program_format(exported, golden):
    manifest = exported("model-gelu", "--int8", "--format", "json")
    assert Predictor(manifest, backend="paddle").run(inputs_of(golden, "model-gelu"))


@pytest.mark.parametrize("by_row", [True, False])
def test_rounding(by_row):
    matrix = np.random.default_rng(1).normal(0, 1, (7, 5)).astype(np.float32)
    matrix[3] = 0
    matrix[:, 2] = 0
    integers, scale = quantize(matrix, by_row=by_row)
    assert (
        integers.dtype == np.int8 and scale.dtype == np.float32 and scale.shape == ((7,) if by_row else (5,))
    )
    wide = integers * (scale[:, None] if by_row else scale)
    assert np.abs(wide - matrix).max() <= 0.5001 * scale.max()
    assert (np.abs(integers).max(axis=1 if by_row else 0) == np.where(scale > 0, 127, 0)).all()
    assert (scale == 0).sum() == 1


# The calibration text


def tokenizer_of(*words):
    """A tokenizer.json that knows these words, <unk> being 0."""
    vocab = {word: number for number, word in enumerate(("<unk>", *words))}
    return json.dumps(
        {
            "version": "1.0",
            "pre_tokenizer": {"type": "Whitespace"},
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
        }
    ).encode()


def text(tmp_path, content):
    file = tmp_path / "text.txt"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def test_rows_are_the_lines_of_the_text(tmp_path, tiny):
    file = text(tmp_path, "a b c\n\n  \nb\n")
    calibration = calibrate_on(file, tokenizer_of("a", "b", "c"), tiny, random=False)
    assert [row["input_ids"].tolist() for row in calibration.rows] == [[[1, 2, 3]], [[2]]]
    assert all(row["attention_mask"].all() for row in calibration.rows)
    assert calibration.record == {"text": "text.txt", "rows": 2, "tokens": 4, "unknown": 0.0}


def calibration_rows(tiny):
    generator = np.random.default_rng(4)
    return [
        {
            "input_ids": generator.integers(1, 60, (1, length)),
            "attention_mask": np.ones((1, length), np.int64),
            "token_type_ids": generator.integers(0, 2, (1, length)),
        }
        for length in (3, 40, 17, 40, 1, 8, 9, 33)
    ]


def test_rows_run_together_in_batches_of_about_one_length(tiny):
    rows = calibration_rows(tiny)
    batches = batches_of(rows * 30)
    assert sum(int(batch["attention_mask"].sum()) for batch in batches) == 30 * 151
    assert all(batch["input_ids"].size <= 512 for batch in batches) and len(batches) < 15
    assert all(not batch["input_ids"][batch["attention_mask"] == 0].any() for batch in batches)
    assert {tuple(row["input_ids"][0]) for row in rows} == {
        tuple(ids[mask == 1])
        for batch in batches
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    }


@pytest.mark.filterwarnings("ignore")  # importing paddle warns of compilers it does not find
def test_ranges_of_rows_together_are_those_of_each_alone(tiny, tiny_tensors):
    """Padding never counts, though here what it is mapped to is the greatest input of the first layer."""
    from albert_export.paddle_model import program  # (paddle takes its time)
    from albert_export.paddle_model.quantized import find_ranges

    tiny = replace(tiny, padding_idx=None)
    tiny_tensors["embeddings.word_embeddings.weight"][0, 0] = 100
    tiny_tensors["encoder.embedding_hidden_mapping_in.weight"][0] *= 10
    tensors = ((name, values.copy()) for name, values in tiny_tensors.items())
    model = program.build_model(tiny, Head(), tensors, "float32", lambda done, total: None)
    short = [row for row in calibration_rows(tiny) if row["input_ids"].size <= 17]
    together = find_ranges(model, batches_of(short))
    alone = find_ranges(model, short)
    assert together.keys() == alone.keys() and len(together) == 6
    for name, ranges in alone.items():
        assert len(ranges) == tiny.num_hidden_layers and min(ranges) > 0
        assert together[name] == pytest.approx(ranges, rel=1e-5)
    # Unmasked it counts: before any attention, so that nothing else has changed there.
    (batch,) = batches_of(short)
    counted = find_ranges(model, [batch | {"attention_mask": np.ones_like(batch["attention_mask"])}])
    query = next(name for name in alone if name.endswith("attention.query.weight"))
    assert counted[query][0] > 1.05 * together[query][0]


def test_long_lines_and_texts_are_cut(tmp_path, tiny):
    file = text(tmp_path, ("a " * 300 + "\n") * 400)
    calibration = calibrate_on(file, tokenizer_of("a"), tiny, random=False)
    assert {row["input_ids"].shape for row in calibration.rows} == {(1, tiny.max_position_embeddings)}
    assert calibration.record["tokens"] == 4120  # 103 rows of 40
    longer = replace(tiny, max_position_embeddings=512)
    assert calibrate_on(file, tokenizer_of("a"), longer, random=False).rows[0]["input_ids"].shape == (1, 128)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "a b d d",
            "50% of the tokens of the calibration text text.txt are unknown to the vocabulary, more than 5%",
        ),
        ("a " * 17 + "d", "6% of the tokens"),
        ("", "has no words"),
        (b"a \xff", "is no UTF-8 text .byte 2."),
        (b"a" * (16 * 2**20 + 1), "larger than 16 MiB"),
    ],
)
def test_unfit_texts_are_refused(tmp_path, tiny, content, message):
    with pytest.raises(ExportError, match=message):
        calibrate_on(text(tmp_path, content), tokenizer_of("a", "b", "c"), tiny, random=False)


def test_missing_files(tmp_path, tiny):
    with pytest.raises(ExportError, match=r"cannot be read .No such file"):
        calibrate_on(tmp_path / "none.txt", tokenizer_of("a"), tiny, random=False)


def test_a_checkpoint_without_tokenizer_cannot_be_calibrated(run, tmp_path, golden):
    outcome = run(golden / "model-gelu", "--int8", "-o", tmp_path / "out")
    assert (
        outcome.code == 1
        and "calibrated on text, and there is no tokenizer; put tokenizer.json" in outcome.err
    )
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_every_long_stage_tells_how_far_it_is(run, tmp_path, golden, monkeypatch):
    told, stages = {}, []
    monkeypatch.setattr(Report, "start", lambda self, stage, text: stages.append(stage))
    monkeypatch.setattr(
        Report, "progress", lambda self, done, total: told.setdefault(stages[-1], []).append((done, total))
    )
    folder = golden / "model-gelu"
    assert run(folder, "--random-weights", "--int8", "-o", tmp_path, "--quiet").code == 0
    for stage, steps in (("eager", 9), ("reference", 9), ("calibrate", 6)):  # 3 layers of each batch
        assert told[stage] == [(done, steps) for done in range(1, steps + 1)]
    for stage in ("verify", "depths"):
        assert told[stage][:3] == [(1, 3), (2, 3), (3, 3)]


def test_the_option_needs_int8(run, tmp_path):
    outcome = run("albert-base-v2", "--calibration", "text.txt", "-o", tmp_path)
    assert outcome.code == 2 and "--calibration is for --int8" in outcome.err


def test_the_shipped_texts_suit_their_languages(tiny):
    letters = {"type": "Split", "pattern": {"String": ""}, "behavior": "Isolated", "invert": False}
    for name in SHIPPED:
        shipped = resources.files("albert_export").joinpath("data", name).read_text("utf-8")
        # Letter by letter, as a Chinese vocabulary does.
        tokenizer = json.loads(tokenizer_of(*dict.fromkeys(shipped))) | {"pre_tokenizer": letters}
        record = calibrate_on(None, json.dumps(tokenizer).encode(), tiny, random=False).record
        assert record["text"] == name and record["tokens"] > 1000


def test_a_trained_model_on_user_text(run, tmp_path):
    file = text(
        tmp_path, "Return the number of items in the list.\nRaised when a file cannot be opened.\n" * 20
    )
    outcome = run(SMALL_MODEL, "--int8", "--calibration", file, "-o", tmp_path / "out")
    assert outcome.code == 0 and "calibration on text.txt, 40 rows" in outcome.err
    manifest = Predictor(tmp_path / "out" / "python-albert-int8").manifest
    assert manifest.calibration["text"] == "text.txt"
    assert (tmp_path / "out" / "python-albert-int8.pdiparams").stat().st_size < 1_600_000
