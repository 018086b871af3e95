"""Arguments, messages and exit codes; none of these gets as far as importing paddle."""

import errno
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from albert_export.pipeline import export
from albert_export.variants import VARIANTS
from albert_runtime.artifact.tasks import LABELLED, MODEL, TASKS, Head
from albert_runtime.backends import nvidia
from albert_runtime.errors import AlbertError


def one_line_error(outcome):
    lines = outcome.err.strip().splitlines()
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("albert-export: error: ")
    assert outcome.out == ""
    return lines[0]


def test_list(run):
    outcome = run("--list")
    assert outcome.code == 0 and outcome.err == ""
    for name, config in VARIANTS.items():
        assert f"{name} " in outcome.out
        assert f"{config.parameter_count():,}" in outcome.out


def test_help_and_version(run):
    assert "--random-weights" in run("--help").out
    assert run("--version").out.startswith("albert-export 0.")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "MODEL is missing"),
        (["--random-weights", "albert-base-v2"], "MODEL comes first"),
        # Read to their end, wherever MODEL stands.
        (["--quiet", "albert-base-v2", "--format", "onnx"], "invalid choice: 'onnx'"),
        (["--task", "model", "albert-base-v2", "--int8", "other"], "unrecognized arguments: other"),
        (["albert-base-v2", "--random-weights", "-3"], "is no seed"),
        (["albert-base-v2", "--random-weights", "1.5"], "no seed (a whole number)"),
        (["albert-base-v2", "--random-weights", "9" * 30], "no seed"),
        (["albert-base-v2", "--random-weights", "--weights", "x"], "not allowed with"),
        (["albert-base-v2", "--format", "onnx"], "invalid choice"),
        (["albert-base-v2", "--task", "ner"], "invalid choice"),
        (["albert-base-v2", "--source", "torrent"], "invalid choice"),
        (["albert-base-v2", "--int8", "--fp16"], "not allowed with"),
        (["albert-base-v2", "--int4"], "unrecognized arguments"),
        (["albert-base-v2", "--rand"], "unrecognized arguments"),
    ],
)
def test_usage_errors_of_the_parser(run, arguments, words):
    outcome = run(*arguments)
    assert outcome.code == 2
    assert words in outcome.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["albert-bse-v2"], "did you mean albert-base-v2, "),
        (["albert-base-v2", "--fp16", "--format", "json"], "use --format pdmodel, or --bf16"),
        (["resnet50"], "'resnet50' is no variant, folder or program; see albert-export --list"),
        (["./albert-base-v2"], "is no variant, folder or program"),
        (["setup.cfg"], "setup.cfg is a file that holds no program; MODEL is a variant name"),
        (["albert-base-v2", "--random-weights", "--name", "../x"], "'../x' cannot start a file name"),
        (["albert-base-v2", "--random-weights", "--name", ""], "'' cannot start a file name"),
        (
            ["albert-base-v2", "--random-weights", "--source", "paddlenlp"],
            "--source is for a variant that is",
        ),
        ([".", "--revision", "main"], "--revision is for a variant that is fetched"),
        (["albert-base-v2", "--random-weights", "--lowercase"], "--lowercase has no tokenizer to act on"),
        (
            ["albert-base-v2", "--random-weights", "--strip-accents"],
            "--strip-accents has no tokenizer to act on",
        ),
    ],
)
def test_usage_errors(run, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    Path("setup.cfg").touch()
    outcome = run(*arguments)
    assert outcome.code == 2
    assert words in one_line_error(outcome)


def test_failures_before_the_export(run, tmp_path, golden, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("taken.onnx").touch()
    Path("file").touch()
    cases = {
        ("./empty",): "empty is no checkpoint folder",
        ("albert-base-v2", "--weights", "nowhere"): "--weights nowhere does not exist",
        ("albert-base-v2", "--weights", "empty"): "empty holds none of model_state.pdparams, ",
        ("albert-base-v2", "--weights", "file"): "file is no weight file (.pdparams, ",
        ("albert-base-v2", "--weights", golden / "model-gelu"): "is not albert-base-v2: vocab_size 503",
        (
            golden / "model-gelu",
            "--name",
            "taken",
            "--quiet",
        ): "taken.onnx exists; replace the artifact with --force",
        (golden / "model-gelu", "-o", "file", "--quiet"): "file: ",
        (golden / "model-gelu", "-o", "file/deeper", "--quiet"): "file",
    }
    for arguments, words in cases.items():
        outcome = run(*arguments)
        assert outcome.code == 1, arguments
        assert words in one_line_error(outcome)
    assert sorted(os.listdir()) == ["empty", "file", "taken.onnx"]  # noqa: PTH208


def test_a_variants_name_wins_over_a_folder(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("albert-chinese-tiny").mkdir()
    stop_at_the_pipeline(monkeypatch)
    assert "RANDOM" in run("albert-chinese-tiny", "--random-weights", "--name", "taken").err
    assert "is no checkpoint folder" in run("./albert-chinese-tiny").err
    assert "is no checkpoint folder" in run("albert-chinese-tiny/").err


@pytest.mark.parametrize(
    "failure",
    [
        (OSError(errno.ENOSPC, "No space left on device", "x.pdiparams"), 1, "free some space or choose"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/dir"),
            1,
            "/dir: Permission denied; change its",
        ),
        (OSError(errno.EROFS, "Read-only file system", "/dir"), 1, "choose another folder with -o"),
        (MemoryError(), 1, "out of memory"),
        (AlbertError("two\nlines"), 1, "two lines"),
        (KeyboardInterrupt(), 130, "interrupted; nothing was written"),
    ],
)
def test_failures_of_the_machine(run, tmp_path, golden, monkeypatch, failure):
    error, code, words = failure

    def fail(*_):
        raise error

    monkeypatch.setattr(export, "run_job", fail)
    outcome = run(golden / "model-gelu", "-o", tmp_path / "new", "--quiet")
    assert outcome.code == code
    assert words in one_line_error(outcome)
    assert not (tmp_path / "new").exists()


def stop_at_the_pipeline(monkeypatch):
    """The requests that would have been exported."""
    requests = []

    def stop(request, report):
        requests.append(request)
        raise AlbertError("far enough")

    monkeypatch.setattr(export, "export", stop)
    return requests


def test_random_weights_are_announced(run, tmp_path, golden, monkeypatch):
    stop_at_the_pipeline(monkeypatch)
    outcome = run(golden / "model-gelu", "--random-weights", "-o", tmp_path)
    assert "RANDOM WEIGHTS (seed 0): this model's outputs mean nothing" in outcome.err
    outcome = run("albert-base-v2", "--random-weights", "41", "-o", tmp_path)
    assert "RANDOM WEIGHTS (seed 41)" in outcome.err


@pytest.mark.parametrize("task", TASKS)
def test_tasks(run, golden, monkeypatch, task):
    requests = stop_at_the_pipeline(monkeypatch)
    run("albert-base-v2", "--task", task, "--random-weights")
    run(golden / "model-gelu", "--task", task, "--random-weights")
    for request in requests:
        assert request.source.head.task == task
        assert request.source.config.add_pooling_layer == (task == MODEL or request.source.head.reads_pooled)
        assert request.source.labels == (("LABEL_0", "LABEL_1") if task in LABELLED else None)


def test_the_task_and_labels_of_a_folder(run, golden, monkeypatch):
    requests = stop_at_the_pipeline(monkeypatch)
    outcome = run(golden / "token-classification")
    assert "token-classification: PaddleNLP weights " in outcome.err
    assert ", task token-classification\n" in outcome.err
    run(golden / "token-classification", "--task", "model")
    first, second = requests
    assert first.source.head == Head("token-classification", 9) and first.source.labels[8] == "LABEL_8"
    assert (
        second.source.head == Head()
        and second.source.labels is None
        and second.source.config.add_pooling_layer
    )


def test_tensors_that_do_not_fit_are_told_before_paddle_starts(run, golden, monkeypatch):
    requests = stop_at_the_pipeline(monkeypatch)
    outcome = run(golden / "model-gelu", "--task", "masked-lm")
    assert outcome.code == 1 and not requests
    assert "missing: predictions.bias, " in one_line_error(outcome)


class Hostile:
    """Pickles as a call of os.system."""

    def __reduce__(self):
        return os.system, ("touch hacked",)


@pytest.mark.parametrize("name", ["model_state.pdparams", "pytorch_model.bin", "model.safetensors"])
def test_hostile_weights_end_in_one_line(run, tmp_path, monkeypatch, write_checkpoint, tiny, name):
    monkeypatch.chdir(tmp_path)
    write_checkpoint(tmp_path / "model", tiny)
    (tmp_path / "model" / name).write_bytes(pickle.dumps({"pooler.bias": Hostile()}))
    outcome = run("model", "-o", "out")
    assert outcome.code == 1
    assert f"model/{name} is " in one_line_error(outcome)
    assert sorted(os.listdir()) == ["model"]  # noqa: PTH208


def test_a_spiece_model_that_is_none(run, tmp_path, write_checkpoint, tiny, tiny_tensors):
    model = write_checkpoint(tmp_path / "model", tiny, tiny_tensors)
    (model / "spiece.model").write_bytes(b"<!DOCTYPE html><html>")  # as a page that asks to log in is saved
    outcome = run(model, "-o", tmp_path / "out")
    assert outcome.code == 1
    assert "model/spiece.model is no SentencePiece model" in one_line_error(outcome)
    assert not (tmp_path / "out").exists()


def test_more_labels_than_columns(run, tmp_path, write_checkpoint, tiny, tiny_tensors):
    head = {"classifier.weight": np.zeros((12, 2), np.float32), "classifier.bias": np.zeros(2, np.float32)}
    names = {"0": "bad", "1": "good", "2": "odd"}
    write_checkpoint(tmp_path, tiny, tiny_tensors | head, "AlbertForSequenceClassification", id2label=names)
    outcome = run(tmp_path, "-o", tmp_path / "out", "--name", "x")
    assert outcome.code == 0
    assert "the config has 3 labels, the classifier 2 columns: bad, good" in outcome.err
    assert json.loads((tmp_path / "out" / "x.manifest.json").read_text())["labels"] == ["bad", "good"]


def test_weights_of_another_folder(run, golden, tmp_path, monkeypatch):
    requests = stop_at_the_pipeline(monkeypatch)
    run(golden / "model-gelu", "--weights", golden / "model-gelu" / "model_state.pdparams")
    assert [request.source.weights.library for request in requests] == ["paddlenlp"]
    outcome = run(golden / "model-gelu", "--weights", golden / "model-relu")
    assert "model-relu is not " in one_line_error(outcome)


def test_a_machine_without_the_extra(run, golden, monkeypatch):
    monkeypatch.setattr("albert_export.cli.importlib.util.find_spec", lambda name: None)
    outcome = run(golden / "model-gelu")
    assert outcome.code == 1
    assert one_line_error(outcome).endswith("not installed; pip install 'albert-runtime[export]'")


def test_the_command_starts_without_the_extra():
    code = "import sys, albert_export.cli; print({'rich', 'onnx', 'paddle'} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout == "set()\n"


def test_full_disk_is_noticed_first(run, tmp_path, golden, monkeypatch):
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr("albert_export.pipeline.publish.shutil.disk_usage", lambda path: usage)
    outcome = run(golden / "model-gelu", "-o", tmp_path, "--quiet")
    assert outcome.code == 1
    assert "has 1.0 kB free, the export needs " in one_line_error(outcome)


def test_a_config_that_cannot_be_read(run, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"hidden_act": "swish"}))
    outcome = run(tmp_path)
    assert outcome.code == 1
    assert "hidden_act must be one of gelu, gelu_new, relu" in one_line_error(outcome)


def test_an_engine_for_a_gpu_that_is_not_there(run, tmp_path, monkeypatch):
    """Refused before anything is exported."""
    monkeypatch.setattr(nvidia, "DRIVER", "libcuda.so.none")
    outcome = run("albert-base-v2", "--random-weights", "--tensorrt", "-o", tmp_path)
    assert outcome.code == 1 and "no NVIDIA GPU here" in one_line_error(outcome)
    assert not list(tmp_path.iterdir())
