"""What folders and files may be called."""

import json
import os
import shutil
from pathlib import Path

import pytest

from albert_export.cli import _parser, main
from albert_export.names import model_name
from albert_export.sources import stem
from albert_runtime import BackendError, Predictor

SHA = "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (f"hub/models--acme--tiny/snapshots/{SHA}", "tiny"),
        (f"models--acme--tiny-v2.1_x/snapshots/{SHA}", "tiny-v2.1_x"),
        (f"models--albert-base-v2/snapshots/{SHA}", "albert-base-v2"),
        (f"acme/snapshots/{SHA}", SHA),
        ("models--acme--tiny/refs/main", "main"),
        ("plain", "plain"),
    ],
)
def test_the_name_of_a_folder(tmp_path, path, name):
    folder = tmp_path / path
    folder.mkdir(parents=True)
    assert model_name(folder) == name
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert model_name(link) == name
    assert stem(_parser().parse_args([str(folder)])) == name
    assert stem(_parser().parse_args([str(folder), "--bf16"])) == f"{name}-bf16"
    assert stem(_parser().parse_args([str(folder), "--name", "mine"])) == "mine"


def raw(folder: Path, name: bytes) -> Path:
    return Path(os.fsdecode(os.fsencode(folder) + b"/" + name))


@pytest.fixture
def exported(golden, tmp_path):
    """A checkpoint in a folder, and with a weight file, whose names are Latin-1."""
    folder = raw(tmp_path, b"mod\xe8le")
    folder.mkdir()
    (folder / "config.json").write_bytes((golden / "model-gelu" / "config.json").read_bytes())
    weights = raw(tmp_path, b"poids\xe8.pdparams")
    weights.write_bytes((golden / "model-gelu" / "model_state.pdparams").read_bytes())
    options = ["--weights", str(weights), "-o", str(tmp_path / "out"), "--name", "x", "--quiet"]
    assert main([str(folder), *options]) == 0
    return tmp_path / "out"


def test_paths_that_are_not_utf8(exported, tmp_path):
    origin = json.loads((exported / "x.manifest.json").read_text())["weights_origin"]
    assert origin["files"] == ["poids?.pdparams"]
    ids = [[2, 5, 3]]
    expected = Predictor(exported / "x", backend="native").run(ids)["last_hidden_state"]
    moved = raw(tmp_path, b"serv\xe9")
    exported.rename(moved)
    for backend in ("native", "auto"):
        found = Predictor(moved / "x", backend=backend).run(ids)["last_hidden_state"]
        assert (found == expected).all()
    for backend in ("onnxruntime", "paddle"):
        with pytest.raises(BackendError, match="opens no path that is not UTF-8") as caught:
            Predictor(moved / "x", backend=backend)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([b"mod\xe8le"], "'mod\\udce8le' cannot start a file name; give a plain one with --name"),
        (
            [b"mod\xe8le", b"--name", b"x", b"-o", b"out\xe8"],
            "is not UTF-8, where Paddle cannot write",
        ),
        ([b"none\xe8"], "is no variant, folder or program"),
    ],
)
def test_paths_that_cannot_be(golden, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(golden / "model-gelu", raw(tmp_path, b"mod\xe8le"))
    assert main([os.fsdecode(argument) for argument in arguments]) in (1, 2)
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("albert-export: error: ") and words in error
