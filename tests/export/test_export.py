"""Whole exports: golden outputs, what lies in the folder, what is refused, what is left after a failure."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from albert_export import pipeline, verify
from albert_export.checkpoint import read_folder, read_weights
from albert_export.pdiparams import read_tensor_ranges
from albert_export.weights import RandomWeights
from albert_runtime import Predictor
from albert_runtime.artifact import Artifact

CASES = ["model-gelu", "model-gelu_new", "model-relu", "model-groups"]
BACKENDS = ["native", "onnxruntime", "paddle"]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_golden_outputs(export_artifact, golden, backend, case):
    predictor = Predictor(export_artifact(golden / case), backend=backend)
    with np.load(golden / case / "io.npz") as stored:
        expected = dict(stored)
    inputs = {name: expected[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    outputs = predictor.run(inputs)
    assert list(outputs) == ["last_hidden_state", "pooled_output"]
    mask = inputs["attention_mask"] == 1
    np.testing.assert_allclose(
        outputs["last_hidden_state"][mask], expected["last_hidden_state"][mask], rtol=0, atol=2e-5
    )
    np.testing.assert_allclose(outputs["pooled_output"], expected["pooled_output"], rtol=0, atol=2e-5)


@pytest.mark.parametrize("program_format", ["pdmodel", "json"])
def test_the_folder_and_its_manifest(export_artifact, golden, program_format):
    program = export_artifact(golden / "model-gelu", format=program_format)
    stem = "model-gelu"
    suffixes = [f".{program_format}", ".pdiparams", ".onnx", ".manifest.json"]
    assert sorted(path.name for path in program.parent.iterdir()) == sorted(
        stem + suffix for suffix in suffixes
    )
    artifact = Artifact.open(program)
    artifact.verify()
    manifest = artifact.manifest
    source = read_folder(golden / stem)
    assert manifest.config == source.config
    assert manifest.name == stem and manifest.weights_origin["format"] == "paddlenlp"
    assert manifest.created_by["paddlepaddle"].startswith("3.1.")
    assert program.with_suffix(".onnx").stat().st_size < 30_000

    record = manifest.verification
    assert record["reference"] == "paddle eager float64" and record["tolerance"] == 2e-5
    assert 0 < record["eager_float32_max_abs"] < 5e-6
    assert list(record["backends"]) == BACKENDS
    for outputs in record["backends"].values():
        for errors in outputs.values():
            assert 0 < errors["max_abs"] <= 2e-5 and errors["max_rel"] < 1e-4 and errors["cosine"] > 0.999999

    # Every byte of the weight file is a header or one tensor's data, and the data are the checkpoint's.
    tensors, _ = read_weights(source.weights_file(), source.config)
    data = program.with_suffix(".pdiparams").read_bytes()
    position = 0
    for tensor in manifest.tensors:
        assert 20 < tensor.offset - position < 40
        position = tensor.offset + tensor.length
        assert data[tensor.offset : position] == tensors[tensor.name].tobytes()
    assert position == len(data)
    assert len(manifest.tensors) == len(source.config.tensor_shapes())
    payload = 4 * sum(math.prod(shape) for shape in source.config.tensor_shapes().values())
    assert len(data) < payload + 40 * len(manifest.tensors)


def test_both_program_formats_have_the_same_weight_file(export_artifact, golden):
    files = [
        export_artifact(golden / "model-gelu", format=form).with_suffix(".pdiparams")
        for form in ("pdmodel", "json")
    ]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_variant_with_random_weights_takes_strings(export_artifact):
    program = export_artifact("albert-chinese-tiny", small_layers=1)
    assert program.name == "albert-chinese-tiny.pdmodel"
    predictor = Predictor(program)
    assert predictor.manifest.weights_origin == {"kind": "random", "seed": 0}
    outputs = predictor.run(["The engine reads the weight file.", ("A question?", "An answer.")])
    assert outputs["pooled_output"].shape == (2, 312)
    weights, _ = RandomWeights(0).load(predictor.manifest.config)
    written = program.with_suffix(".pdiparams").read_bytes()
    ranges = {tensor.name: tensor for tensor in predictor.manifest.tensors}
    for name, value in weights:
        tensor = ranges[name]
        assert written[tensor.offset : tensor.offset + tensor.length] == value.tobytes()


def test_no_pooler_and_a_tokenizer_of_its_own(run, tmp_path, tiny, tiny_tensors, write_checkpoint):
    config = replace(tiny, add_pooling_layer=False)
    tensors = {name: value for name, value in tiny_tensors.items() if not name.startswith("pooler")}
    folder = write_checkpoint(tmp_path / "no pooler", config, tensors)
    (folder / "tokenizer.json").write_text('{"model": {"vocab": {}}}')
    outcome = run(folder, "-o", tmp_path / "out", "--name", "my model.v1")
    assert outcome.code == 0, outcome.err
    assert "verify" in outcome.err and "max abs" in outcome.err and "published" in outcome.err
    assert (tmp_path / "out" / "my model.v1.tokenizer.json").read_text() == '{"model": {"vocab": {}}}'
    manifest = Artifact.open(tmp_path / "out" / "my model.v1.onnx").manifest
    assert manifest.outputs == ("last_hidden_state",)
    assert list(manifest.verification["backends"]["paddle"]) == ["last_hidden_state"]


def test_outlier_channels_widen_the_tolerance(run, tmp_path, golden, write_checkpoint):
    """LayerNorm weights of 15, as real checkpoints have them: any float32 is off by far more than 2e-5."""
    source = read_folder(golden / "model-gelu_new")
    tensors, _ = read_weights(source.weights_file(), source.config)
    tensors = {name: value.copy() for name, value in tensors.items()}
    for name, value in tensors.items():
        if name.endswith("layer_norm.weight") and "albert_layers" in name:
            value[:4] = 15.0
        elif name.endswith("ffn_output.weight"):
            value[:, :4] *= 30.0
    folder = write_checkpoint(tmp_path / "outliers", source.config, tensors)
    outcome = run(folder, "-o", tmp_path / "out", "--quiet")
    assert (outcome.code, outcome.err) == (0, "")
    record = Artifact.open(tmp_path / "out").manifest.verification
    assert record["tolerance"] == 4 * record["eager_float32_max_abs"] > 2e-5


def test_weights_for_a_variants_shape(run, tmp_path, tiny, tiny_tensors, write_checkpoint):
    """--weights as a file with a prefix, as published checkpoints are; MODEL gives the config alone."""
    model = write_checkpoint(tmp_path / "model", tiny)
    prefixed = {f"transformer.{name}": value for name, value in tiny_tensors.items()}
    prefixed["predictions.bias"] = np.zeros(60, np.float32)
    weights = write_checkpoint(tmp_path / "published", tiny, prefixed) / "model_state.pdparams"
    outcome = run(model, "--weights", weights, "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert "left out, no part of the encoder: predictions.bias" in outcome.err
    ranges = read_tensor_ranges(tmp_path / "out" / "model.pdiparams", tiny.tensor_shapes())
    assert [asdict(tensor) for tensor in ranges] == [
        asdict(tensor) for tensor in Artifact.open(tmp_path / "out").manifest.tensors
    ]


def test_force_replaces_and_a_failure_keeps_the_old_artifact(
    run, tmp_path, tiny, monkeypatch, write_checkpoint
):
    folder = write_checkpoint(tmp_path / "m", tiny)
    out = tmp_path / "out"
    arguments = (folder, "-o", out, "--quiet")
    assert run(*arguments, "--random-weights", "1").code == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    refused = run(*arguments, "--random-weights", "2")
    assert refused.code == 1 and "exists; replace the artifact with --force" in refused.err

    monkeypatch.setattr(verify, "TOLERANCE", 0.0)
    monkeypatch.setattr(verify, "EAGER_FACTOR", 0.0)
    failed = run(*arguments, "--random-weights", "2", "--force")
    assert failed.code == 1
    assert "verification failed: native differs from eager Paddle in float64 by" in failed.err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert run(folder, "-o", tmp_path / "new", "--random-weights", "2", "--quiet").code == 1
    assert not (tmp_path / "new").exists()

    monkeypatch.undo()
    assert run(*arguments, "--random-weights", "2", "--force").code == 0
    assert Artifact.open(out).manifest.weights_origin["seed"] == 2


@pytest.mark.parametrize("damage", ["truncated", "hostile", "spare", "overflow", "tokenizer"])
def test_bad_checkpoints_leave_nothing(run, tmp_path, golden, write_checkpoint, damage):
    source = read_folder(golden / "model-gelu")
    tensors, _ = read_weights(source.weights_file(), source.config)
    if damage == "spare":
        tensors["classifier.weight"] = np.zeros((12, 2), np.float32)
    elif damage == "overflow":
        tensors["embeddings.layer_norm.weight"] = np.full(32, 3e38, np.float32)
    folder = write_checkpoint(tmp_path / "m", source.config, tensors)
    file = folder / "model_state.pdparams"
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "hostile":
        file.write_bytes(b"\x80\x02cposix\nsystem\nX\x0c\x00\x00\x00touch hacked\x85R.")
    elif damage == "tokenizer":
        (folder / "tokenizer.json").write_text("[]")
    words = {
        "truncated": "is truncated",
        "hostile": "'posix.system'",
        "spare": "unexpected: classifier.weight",
        "overflow": "float32 is not enough for this model",
        "tokenizer": "tokenizer.json is no tokenizer.json",
    }
    outcome = run(folder, "-o", tmp_path / "out", "--quiet")
    assert outcome.code == 1
    assert words[damage] in outcome.err and len(outcome.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_demo_tokenizer_fits_every_variant():
    data = json.loads(
        pipeline.resources.files("albert_export").joinpath("data", pipeline.DEMO_TOKENIZER).read_bytes()
    )
    ids = data["model"]["vocab"]
    assert [ids[token] for token in ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")] == [0, 1, 2, 3, 4]
    assert max(ids.values()) == len(ids) - 1 < 4000
