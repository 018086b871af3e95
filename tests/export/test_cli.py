"""Arguments, messages and exit codes; none of these gets as far as importing paddle."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from albert_export import pipeline
from albert_export.variants import VARIANTS
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
        (["albert-base-v2", "--random-weights", "-3"], "is no seed"),
        (["albert-base-v2", "--random-weights", "1.5"], "no seed (a whole number)"),
        (["albert-base-v2", "--random-weights", "9" * 30], "no seed"),
        (["albert-base-v2", "--random-weights", "--weights", "x"], "not allowed with"),
        (["albert-base-v2", "--format", "onnx"], "invalid choice"),
        (["albert-base-v2", "--int8"], "unrecognized arguments"),
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
        (["resnet50"], "'resnet50' is no variant and no folder; see albert-export --list"),
        (["./albert-base-v2"], "is no variant and no folder"),
        (["setup.cfg"], "setup.cfg is a file; MODEL is a variant name or a folder"),
        (["albert-base-v2", "--random-weights", "--name", "../x"], "'../x' cannot start a file name"),
        (["albert-base-v2", "--random-weights", "--name", ""], "'' cannot start a file name"),
    ],
)
def test_usage_errors(run, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    Path("setup.cfg").touch()
    outcome = run(*arguments)
    assert outcome.code == 2
    assert words in one_line_error(outcome)


def test_a_variant_without_weights(run):
    outcome = run("albert-base-v2", "--quiet")
    assert outcome.code == 1
    message = one_line_error(outcome)
    assert "does not download published weights yet" in message
    assert "--weights PATH" in message and "--random-weights" in message


def test_failures_before_the_export(run, tmp_path, golden, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("taken.onnx").touch()
    Path("file").touch()
    cases = {
        ("./empty",): "empty is no checkpoint folder",
        ("albert-base-v2", "--weights", "nowhere"): "--weights nowhere does not exist",
        ("albert-base-v2", "--weights", golden / "model-gelu"): "is not albert-base-v2: vocab_size 503",
        (golden / "model-gelu", "--name", "taken"): "taken.onnx exists; replace the artifact with --force",
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
    assert "does not download" in run("albert-chinese-tiny").err
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

    monkeypatch.setattr(pipeline, "run_stage", fail)
    outcome = run(golden / "model-gelu", "-o", tmp_path / "new", "--quiet")
    assert outcome.code == code
    assert words in one_line_error(outcome)
    assert not (tmp_path / "new").exists()


def test_random_weights_are_announced(run, tmp_path, golden, monkeypatch):
    def fail(*_):
        raise AlbertError("far enough")

    monkeypatch.setattr(pipeline, "run_stage", fail)
    outcome = run(golden / "model-gelu", "--random-weights", "-o", tmp_path)
    assert "RANDOM WEIGHTS (seed 0): this model's outputs mean nothing" in outcome.err
    outcome = run("albert-base-v2", "--random-weights", "41", "-o", tmp_path)
    assert "RANDOM WEIGHTS (seed 41)" in outcome.err


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
    monkeypatch.setattr("albert_export.publish.shutil.disk_usage", lambda path: usage)
    outcome = run(golden / "model-gelu", "-o", tmp_path, "--quiet")
    assert outcome.code == 1
    assert "has 1.0 kB free, the export needs 16." in one_line_error(outcome)


def test_a_config_that_cannot_be_read(run, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"hidden_act": "swish"}))
    outcome = run(tmp_path)
    assert outcome.code == 1
    assert "hidden_act must be one of gelu, gelu_new, relu" in one_line_error(outcome)
