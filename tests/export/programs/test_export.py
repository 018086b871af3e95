"""Programs taken over by the command: its artifact answers what the program does."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from albert_export.pipeline import export as pipeline
from albert_export.programs.comparison import as_program_gives, taken_program
from albert_runtime import Predictor
from albert_runtime.artifact import tasks
from albert_runtime.errors import AlbertError

from .stored import Case

# Each takes seconds, and most differ from another in what reads them alone.
USUAL = ("torch-dynamo/model-external",)
SLOW = (
    "onnx-passes/half-model",
    "onnxruntime/fused-model-groups",
    "optimum-old/text-classification-o3",
    "optimum/fill-mask",
    "paddle2-pdmodel/masked-lm",
    "paddle2-pdmodel/model-ids-only",
    "paddle2onnx-json/model-two-named-opset13",
    "paddle2onnx-old/model-padding-id-3-opset13",
    "paddle3-json/multiple-choice",
    "paddle3-json/pretraining",
    "paddle3-pdmodel/model-inner",
    "sentence-transformers/optimum-max",
    "torch-dynamo/model-opset23",
    "torch-script/masked-lm-untied",
    "torch-script/model-groups-inner",
    "torch-script/multiple-choice",
    "torch-script/pretraining",
    "torch-script/question-answering",
    "torch-script/sentence-mean-normalized",
    "torch-script/sequence-classification-softmax",
)


@pytest.fixture
def taken(run, tmp_path):
    """taken(MODEL, *options) -> the artifact's manifest, its Predictor, and what the command said."""

    def of(model, *options):
        out = tmp_path / "out"
        outcome = run(model, "-o", out, *options)
        assert outcome.code == 0, outcome.err
        (manifest,) = out.glob("*.manifest.json")
        return json.loads(manifest.read_text()), Predictor(manifest), outcome.err

    return of


def check(predictor, folder):
    """Compare an artifact with what the stored program of a folder answers."""
    case = Case(folder)
    program = taken_program(case.graph, case.albert)
    assert program.outputs
    for given, expected in case.batches:
        batch = {ours: given[theirs] for ours, theirs in program.inputs.items()}
        if "attention_mask" not in batch:
            batch["attention_mask"] = np.ones_like(batch["input_ids"])
        found = as_program_gives(program, predictor.run(batch))
        for ours, values in found.items():
            theirs = expected[program.outputs[ours].name]
            kept = slice(None)
            if (
                values.shape[:2] == batch["input_ids"].shape
                and case.albert.head.task != tasks.MULTIPLE_CHOICE
            ):
                kept = batch["attention_mask"] == 1
            tolerance = 4e-3 if program.half else 2e-5
            np.testing.assert_allclose(values[kept], theirs[kept], rtol=0, atol=tolerance, err_msg=ours)


@pytest.mark.parametrize("name", [*USUAL, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_a_folder_with_a_program(stored_program, taken, name):
    folder = stored_program(name)
    manifest, predictor, said = taken(folder)
    check(predictor, folder)
    assert manifest["name"] == folder.name
    file = Case(folder).program
    assert f"{folder.name}: program {file}, task {manifest['task']}" in said.replace("\n", "")
    program = manifest["verification"]["program"]
    assert program["file"] == file.name and program["native"]
    origin = manifest["weights_origin"]
    assert (origin["kind"], origin["format"]) == ("program", file.suffix[1:])
    assert origin["files"] == [path.name for path in Case(folder).graph.files]


def test_a_folder_of_optimum(stored_program, taken):
    """Labels and tokenizer are those beside the program."""
    folder = stored_program("optimum/text-classification")
    manifest, predictor, _ = taken(folder, "--quiet")
    check(predictor, folder)
    assert manifest["labels"] == ["negative", "neutral", "positive"]
    assert predictor.classify("some words", top_k=3)["probabilities"].keys() == set(manifest["labels"])


def test_a_folder_of_sentence_transformers(stored_program, taken):
    """Its modules say how onnx/model.onnx's states become a vector; optimum put the same into a program."""
    folder = stored_program("sentence-transformers/library-mean")
    manifest, predictor, _ = taken(folder, "--quiet")
    assert manifest["name"] == "library-mean"
    check(predictor, folder)
    for given, expected in Case(stored_program("sentence-transformers/optimum-mean")).batches:
        found = predictor.run(given)["sentence_embedding"]
        np.testing.assert_allclose(found, expected["sentence_embedding"], rtol=0, atol=2e-5)
    assert predictor.embed(["some words", "more"]).shape == (2, 24)


def test_weights_that_name_their_program(stored_program, taken):
    folder = stored_program("paddle3-pdmodel/model-relu")
    manifest, predictor, said = taken(folder / "model.pdiparams", "--name", "mine")
    check(predictor, folder)
    assert manifest["name"] == "mine" and "model.pdmodel answered 3 batches" in said


def test_an_artifact_of_ours_again(stored_program, taken, run, tmp_path):
    """The same weights, byte for byte, from each of its programs; its own files are never replaced."""
    folder = stored_program("paddle3-json/token-classification")
    _, predictor, _ = taken(folder / "model.json", "--format", "json", "--name", "first", "--quiet")
    check(predictor, folder)
    first = tmp_path / "out"
    outcome = run(first / "first.onnx", "-o", tmp_path / "again", "--quiet")
    assert outcome.code == 0, outcome.err
    weights = [
        path.read_bytes() for path in (first / "first.pdiparams", tmp_path / "again" / "first.pdiparams")
    ]
    assert weights[0] == weights[1]
    check(Predictor(tmp_path / "again" / "first.pdmodel"), folder)
    before = {path.name: path.read_bytes() for path in first.iterdir()}
    for program in ("first.json", "first.onnx", "first.pdiparams"):
        outcome = run(first / program, "-o", first, "--force", "--quiet")
        assert outcome.code == 1
        assert "is what the artifact is made from; choose another --name or -o" in outcome.err
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before


# ---- What is not exported


@pytest.fixture
def requests(monkeypatch):
    """The requests that would have been exported."""
    made = []

    def stop(request, report):
        made.append(request)
        raise AlbertError("far enough")

    monkeypatch.setattr(pipeline, "export", stop)
    return made


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("my-model/model.onnx", "my-model"),
        ("my-model/model_quantized.onnx", "my-model"),
        ("my-model/model_O3.onnx", "my-model"),
        ("my-model/onnx/model.onnx", "my-model"),
        ("my-model/onnx/model_fp16.onnx", "my-model"),
        ("my-model/inference.onnx", "my-model"),
        ("my-model/albert.onnx", "albert"),
        ("my-model/models.onnx", "models"),
    ],
)
def test_names(stored_program, run, requests, tmp_path, place, name):
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    shutil.copy(stored_program("torch-script/model-one-layer") / "model.onnx", path)
    run(path)
    run(tmp_path / "my-model")
    run(path, "--int8")
    run(path, "--name", "mine")
    assert [request.stem for request in requests] == [name, name, f"{name}-int8", "mine"]


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("paddle2-pdmodel/model-ids-only", ("model.pdmodel", "model.pdiparams")),
        ("paddle3-json/model", ("model.json", "model.pdiparams")),
        ("torch-dynamo/model-external", ("model.onnx", "model.onnx.data")),
    ],
)
def test_each_file_of_a_program(stored_program, run, requests, name, files):
    folder = stored_program(name)
    given = [folder, folder / files[0], *(folder / one for one in files[1:] if one.endswith(".pdiparams"))]
    for model in given:
        run(model)
    paths = tuple(folder / one for one in files)
    assert [request.source.program.files for request in requests] == [paths] * len(given)


def test_the_task_of_a_program(stored_program, run, requests):
    folder = stored_program("torch-script/sequence-classification")
    run(folder)
    run(folder, "--task", "sequence-classification")
    run(folder, "--task", "model")
    assert [request.source.head.task for request in requests] == ["sequence-classification"] * 2 + ["model"]
    assert requests[2].source.labels is None
    outcome = run(folder, "--task", "masked-lm")
    assert outcome.code == 1 and len(requests) == 3
    assert "the program has the head of sequence-classification, not of masked-lm" in outcome.err


def test_the_padding_word_that_the_config_says(stored_program, run, requests, tmp_path):
    """The program masks by an input, so that the config alone knows."""
    folder = shutil.copytree(stored_program("torch-script/model"), tmp_path / "model")
    (folder / "config.json").write_text(json.dumps({"model_type": "albert", "pad_token_id": 5}))
    run(folder)
    assert requests[0].source.config.pad_token_id == 5


def test_a_checkpoint_beside_a_program_is_taken(stored_program, run, requests, golden, tmp_path):
    folder = shutil.copytree(golden / "model-relu", tmp_path / "model")
    shutil.copy(stored_program("torch-script/model") / "model.onnx", folder)
    run(folder)
    run(folder / "model.onnx")
    assert [request.source.program is None for request in requests] == [True, False]
    assert [request.source.config.vocab_size for request in requests] == [503, 97]


@pytest.mark.parametrize("options", [["--weights", "x"], ["--random-weights"], ["--random-weights", "3"]])
def test_weights_do_not_go_with_a_program(stored_program, run, tmp_path, options):
    outcome = run(stored_program("torch-script/model") / "model.onnx", "-o", tmp_path / "out", *options)
    assert outcome.code == 2
    assert f"{options[0]} does not go with a program, which brings its weights" in outcome.err
    assert not (tmp_path / "out").exists()


def test_several_programs_in_a_folder(stored_program, run, requests, tmp_path):
    program = stored_program("torch-script/model-one-layer") / "model.onnx"
    for name in ("one.onnx", "two.onnx"):
        shutil.copy(program, tmp_path / name)
    outcome = run(tmp_path)
    assert outcome.code == 2
    assert "holds several programs (one.onnx, two.onnx); give one as MODEL" in outcome.err
    shutil.copy(program, tmp_path / "model.onnx")
    run(tmp_path)
    assert len(requests) == 1  # it has the name that exporters give


def test_weights_alone(run, tmp_path):
    path = tmp_path / "inference.pdiparams"
    path.touch()
    outcome = run(path)
    assert outcome.code == 2
    assert "holds weights alone; inference.pdmodel or inference.json must lie beside it" in outcome.err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "other/bert",
            "/model.onnx: it is no ALBERT that we know: /encoder/layer.0/attention/self/key/Add (Add)",
        ),
        ("onnxruntime/int8-model", "it is quantized; give the program before that, or its checkpoint"),
        ("paddle3-json-other/convnet", "its inputs are image [any, 3, 8, 8]"),
    ],
)
def test_what_is_refused_leaves_nothing(stored_program, run, tmp_path, name, words):
    outcome = run(stored_program(name), "-o", tmp_path / "out")
    assert outcome.code == 1 and words in outcome.err
    assert len(outcome.err.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_damaged_files(stored_program, run, tmp_path):
    data = (stored_program("torch-script/model") / "model.onnx").read_bytes()
    for file, content in {"half.onnx": data[: len(data) // 2], "page.onnx": b"<!DOCTYPE html>"}.items():
        Path(tmp_path / file).write_bytes(content)
        outcome = run(tmp_path / file, "-o", tmp_path / "out")
        assert outcome.code == 1 and "is no ONNX file, or it is damaged" in outcome.err
    assert not (tmp_path / "out").exists()
