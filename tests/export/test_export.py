"""Whole exports: golden outputs, what lies in the folder, what is refused, what is left after a failure."""

import dataclasses
import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from albert_export import onnx_graph, verify
from albert_export.checkpoint.pickle_machine import read_state_dict
from albert_export.checkpoint.weights import RandomWeights
from albert_export.paddle_model.pdiparams import read_tensor_ranges
from albert_export.pipeline import export
from albert_runtime import Predictor
from albert_runtime.artifact.artifact import Artifact
from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.artifact.tasks import Head
from albert_runtime.artifact.tensor_table import tensor_shapes

HEADS = {
    "masked-lm": Head.of("masked-lm"),
    "sequence-classification": Head.of("sequence-classification", num_labels=3),
    "token-classification": Head.of("token-classification", num_labels=9),
    "question-answering": Head.of("question-answering"),
    "multiple-choice": Head.of("multiple-choice"),
}
CASES = ["model-gelu", "model-gelu_new", "model-relu", "model-groups", *HEADS]
BACKENDS = ["native", "onnxruntime", "paddle"]


def stored_tensors(folder):
    """The tensors of a golden case under the names of the manifest."""
    state = read_state_dict(folder / "model_state.pdparams")
    return {name.removeprefix("transformer."): value for name, value in state.items()}


def golden_model(folder):
    """The config of a bare golden model and its tensors, free to be changed."""
    said = json.loads((folder / "config.json").read_text())
    fields = {
        field.name: said[field.name] for field in dataclasses.fields(AlbertConfig) if field.name in said
    }
    config = AlbertConfig.from_dict({**fields, "padding_idx": 0})
    state = stored_tensors(folder)
    return config, {name: state[name].copy() for name in config.tensor_shapes()}


def check_golden(predictor, folder):
    with np.load(folder / "io.npz") as stored:
        expected = dict(stored)
    inputs = {name: expected.pop(name) for name in ("input_ids", "attention_mask", "token_type_ids")}
    outputs = predictor.run(inputs)
    assert list(outputs) == list(predictor.manifest.outputs) and outputs.keys() == expected.keys()
    mask = inputs["attention_mask"] == 1
    for name, values in outputs.items():
        assert values.shape == expected[name].shape
        kept = mask if values.shape[: mask.ndim] == mask.shape else slice(None)
        np.testing.assert_allclose(values[kept], expected[name][kept], rtol=0, atol=2e-5)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_golden_outputs(export_artifact, golden, backend, case):
    check_golden(Predictor(export_artifact(golden / case), backend=backend), golden / case)


@pytest.mark.parametrize("case", HEADS)
def test_golden_outputs_of_the_other_program_format(export_artifact, golden, case):
    program = export_artifact(golden / case, format="json")
    check_golden(Predictor(program, backend="paddle"), golden / case)


@pytest.mark.parametrize(
    ("case", "program_format"), [("model-gelu", "json"), *((case, "pdmodel") for case in CASES)]
)
def test_the_folder_and_its_manifest(export_artifact, golden, case, program_format):
    program = export_artifact(golden / case, format=program_format)
    suffixes = [f".{program_format}", ".pdiparams", ".onnx", ".manifest.json"]
    assert sorted(path.name for path in program.parent.iterdir()) == sorted(
        case + suffix for suffix in suffixes
    )
    artifact = Artifact.open(program)
    artifact.verify()
    manifest = artifact.manifest
    said = json.loads((golden / case / "config.json").read_text())
    config, head = manifest.config, manifest.head
    assert {key: said[key] for key in said.keys() & config.to_dict().keys()} == {
        **{key: getattr(config, key) for key in said.keys() & config.to_dict().keys()},
        "add_pooling_layer": True,
    }
    assert config.padding_idx == 0
    assert config.add_pooling_layer == (head.reads_pooled or case not in HEADS)
    assert head == HEADS.get(case, Head()) and manifest.task == head.task
    assert manifest.labels == (tuple(said["id2label"].values()) if "id2label" in said else None)
    assert manifest.name == case and manifest.weights_origin["format"] == "paddlenlp"
    assert manifest.created_by["paddlepaddle"].startswith("3.1.")
    assert program.with_suffix(".onnx").stat().st_size < (60_000 if case == "model-groups" else 30_000)

    record = manifest.verification
    assert record["reference"] == "paddle eager float64"
    # How far float32 in Paddle is off differs by processor; it is held to what is asked of the backends.
    assert 0 < record["eager_float32_max_abs"] <= 2e-5
    assert record["tolerance"] == max(2e-5, 16 * record["eager_float32_max_abs"])
    assert list(record["backends"]) == BACKENDS
    for outputs in record["backends"].values():
        assert list(outputs) == list(manifest.outputs)
        for errors in outputs.values():
            assert 0 < errors["max_abs"] <= 2e-5 and errors["max_rel"] < 1e-4 and errors["cosine"] > 0.999999

    # Every byte of the weight file is a header or one tensor's data, and the data are the checkpoint's.
    tensors = stored_tensors(golden / case)
    data = program.with_suffix(".pdiparams").read_bytes()
    position = 0
    for tensor in manifest.tensors:
        assert 20 < tensor.offset - position < 40
        position = tensor.offset + tensor.length
        assert data[tensor.offset : position] == tensors[tensor.name].tobytes()
    assert position == len(data)
    shapes = tensor_shapes(config, head)
    assert len(manifest.tensors) == len(shapes)
    payload = 4 * sum(math.prod(shape) for shape in shapes.values())
    assert len(data) < payload + 40 * len(manifest.tensors)


@pytest.fixture
def pretraining(tiny):
    """Random tensors of a pretraining model, its decoder apart from the word table."""
    generator = np.random.default_rng(6)
    head = Head.of("pretraining", tied_decoder=False)
    return {
        name: generator.normal(1.0 if name.endswith("layer_norm.weight") else 0.0, 0.2, shape).astype(
            np.float32
        )
        for name, shape in tensor_shapes(tiny, head).items()
    }


def test_a_tied_decoder_reads_the_stored_row_of_the_padding_id(
    run, tmp_path, tiny, pretraining, write_checkpoint
):
    """The word table as decoder gives what an equal matrix of its own gives, in less space."""
    words = pretraining["embeddings.word_embeddings.weight"]
    other = words.copy()
    other[5] = words[0]
    scores, sizes = {}, {}
    for name, decoder in (("tied", words), ("untied", other)):
        folder = write_checkpoint(
            tmp_path / name,
            tiny,
            {**pretraining, "predictions.decoder.weight": decoder},
            "AlbertForPretraining",
        )
        outcome = run(folder, "-o", tmp_path / "out", "--quiet")
        assert (outcome.code, outcome.err) == (0, "")
        program = tmp_path / "out" / f"{name}.pdmodel"
        sizes[name] = program.with_suffix(".pdiparams").stat().st_size
        for backend in BACKENDS:
            predictor = Predictor(program, backend=backend)
            assert predictor.manifest.head == Head.of("pretraining", tied_decoder=name == "tied")
            outputs = predictor.run([[1, 7, 0, 9], [5, 4]])
            assert list(outputs) == ["prediction_scores", "sop_logits"]
            scores[name, backend] = outputs["prediction_scores"][0]
    assert 4 * words.size < sizes["untied"] - sizes["tied"] < 4 * words.size + 100
    bias = pretraining["predictions.bias"]
    kept = np.arange(60) != 5
    for backend in BACKENDS:
        tied, untied = scores["tied", backend], scores["untied", backend]
        np.testing.assert_allclose(tied[:, kept], untied[:, kept], rtol=0, atol=2e-5)
        row = untied[:, 5] - bias[5]
        assert np.abs(row).max() > 0.1
        np.testing.assert_allclose(tied[:, 0] - bias[0], row, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("batch", "choices", "width"), [(1, 1, 1), (3, 2, 9), (2, 5, 16)])
def test_any_number_of_choices(export_artifact, golden, batch, choices, width):
    """Every choice is answered as if it were alone."""
    program = export_artifact(golden / "multiple-choice")
    generator = np.random.default_rng(7)
    ids = generator.integers(1, 500, (batch, choices, width))
    mask = np.arange(width) < generator.integers(1, width + 1, (batch, choices, 1))
    inputs = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
    for backend in BACKENDS:
        predictor = Predictor(program, backend=backend)
        logits = predictor.run(inputs)["logits"]
        assert logits.shape == (batch, choices)
        for row, choice in np.ndindex(batch, choices):
            alone = {name: value[row : row + 1, choice : choice + 1] for name, value in inputs.items()}
            np.testing.assert_allclose(
                predictor.run(alone)["logits"], logits[row : row + 1, choice : choice + 1], rtol=0, atol=2e-5
            )


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
    weights, _ = RandomWeights(0).load(predictor.manifest.config, Head())
    written = program.with_suffix(".pdiparams").read_bytes()
    ranges = {tensor.name: tensor for tensor in predictor.manifest.tensors}
    for name, value in weights:
        tensor = ranges[name]
        assert written[tensor.offset : tensor.offset + tensor.length] == value.tobytes()


def test_no_pooler_and_a_tokenizer_of_its_own(run, tmp_path, tiny, tiny_tensors, write_checkpoint):
    config = replace(tiny, add_pooling_layer=False)
    tensors = {name: value for name, value in tiny_tensors.items() if not name.startswith("pooler")}
    folder = write_checkpoint(tmp_path / "no pooler", config, tensors)
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "word": 1}, unk_token="<unk>"))
    tokenizer.save(str(folder / "tokenizer.json"))
    outcome = run(folder, "-o", tmp_path / "out", "--name", "my model.v1")
    assert outcome.code == 0, outcome.err
    assert "verify" in outcome.err and "max abs" in outcome.err and "published" in outcome.err
    written = tmp_path / "out" / "my model.v1.tokenizer.json"
    assert written.read_bytes() == (folder / "tokenizer.json").read_bytes()
    manifest = Artifact.open(tmp_path / "out" / "my model.v1.onnx").manifest
    assert manifest.outputs == ("last_hidden_state",)
    assert list(manifest.verification["backends"]["paddle"]) == ["last_hidden_state"]


def test_outlier_channels_widen_the_tolerance(run, tmp_path, golden, write_checkpoint):
    """LayerNorm weights of 15, as real checkpoints have them: any float32 is off by far more than 2e-5."""
    config, tensors = golden_model(golden / "model-gelu_new")
    for name, value in tensors.items():
        if name.endswith("layer_norm.weight") and "albert_layers" in name:
            value[:4] = 15.0
        elif name.endswith("ffn_output.weight"):
            value[:, :4] *= 30.0
    folder = write_checkpoint(tmp_path / "outliers", config, tensors)
    outcome = run(folder, "-o", tmp_path / "out", "--quiet")
    assert (outcome.code, outcome.err) == (0, "")
    record = Artifact.open(tmp_path / "out").manifest.verification
    assert record["tolerance"] == 16 * record["eager_float32_max_abs"] > 2e-5
    assert record["typical_tolerance"] == max(2e-5, 4 * record["eager_float32_typical_abs"])


def test_weights_for_a_variants_shape(run, tmp_path, tiny, tiny_tensors, write_checkpoint):
    """--weights as a file with a prefix, as published checkpoints are; MODEL gives the config alone."""
    model = write_checkpoint(tmp_path / "model", tiny)
    prefixed = {f"transformer.{name}": value for name, value in tiny_tensors.items()}
    prefixed["predictions.bias"] = np.zeros(60, np.float32)
    weights = write_checkpoint(tmp_path / "published", tiny, prefixed) / "model_state.pdparams"
    outcome = run(model, "--weights", weights, "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert "left out, no part of this model: predictions.bias" in outcome.err
    ranges = read_tensor_ranges(
        tmp_path / "out" / "model.pdiparams",
        tiny.tensor_shapes(),
        dict.fromkeys(tiny.tensor_shapes(), "float32"),
    )
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
    monkeypatch.setattr(verify, "GREATEST_FACTOR", 0.0)
    failed = run(*arguments, "--random-weights", "2", "--force")
    assert failed.code == 1
    assert "verification failed: native differs from eager Paddle in float64 by" in failed.err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert run(folder, "-o", tmp_path / "new", "--random-weights", "2", "--quiet").code == 1
    assert not (tmp_path / "new").exists()

    monkeypatch.undo()
    assert run(*arguments, "--random-weights", "2", "--force").code == 0
    assert Artifact.open(out).manifest.weights_origin["seed"] == 2


def test_a_graph_that_does_not_load_fails_the_export(run, tmp_path, tiny, monkeypatch, write_checkpoint):
    """Only what a processor cannot do is left out, nothing that is wrong with the artifact."""
    monkeypatch.setattr(onnx_graph, "write_onnx", lambda path, *rest: path.write_bytes(b"no graph"))
    outcome = run(
        write_checkpoint(tmp_path / "m", tiny), "-o", tmp_path / "out", "--random-weights", "--quiet"
    )
    assert outcome.code == 1 and "ONNX Runtime cannot load m.onnx" in outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["truncated", "hostile", "spare", "overflow", "tokenizer"])
def test_bad_checkpoints_leave_nothing(run, tmp_path, golden, write_checkpoint, damage):
    config, tensors = golden_model(golden / "model-gelu")
    if damage == "spare":
        tensors["classifier.weight"] = np.zeros((12, 2), np.float32)
    elif damage == "overflow":
        tensors["embeddings.layer_norm.weight"] = np.full(32, 3e38, np.float32)
    folder = write_checkpoint(tmp_path / "m", config, tensors)
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
        "tokenizer": "tokenizer.json is no tokenizer",
    }
    outcome = run(folder, "-o", tmp_path / "out", "--quiet")
    assert outcome.code == 1
    assert words[damage] in outcome.err and len(outcome.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_demo_tokenizer_fits_every_variant():
    data = json.loads(
        export.resources.files("albert_export").joinpath("data", export.DEMO_TOKENIZER).read_bytes()
    )
    ids = data["model"]["vocab"]
    assert [ids[token] for token in ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")] == [0, 1, 2, 3, 4]
    assert max(ids.values()) == len(ids) - 1 < 4000
