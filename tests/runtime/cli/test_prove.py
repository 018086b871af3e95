"""albert-predict --prove: for people who want to see whether a machine computes as the exporting one did."""

import sys
from dataclasses import replace

import pytest

from albert_runtime import _native
from albert_runtime.artifact.manifest import Manifest
from albert_runtime.cli.predict import main

from ..conftest import add_proof


@pytest.fixture
def path(make_artifact):
    return add_proof(make_artifact())


@pytest.fixture
def no_input(monkeypatch):
    """A standard input that nobody may read, as on a terminal."""
    monkeypatch.setattr(sys, "stdin", None)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_it_says_what_was_proved_and_reads_no_lines(path, capsys, no_input, precision):
    assert main([str(path), "--prove", "--backend", "native", "--precision", precision]) == 0
    captured = capsys.readouterr()
    isa = _native.default_isa()
    outputs = "last_hidden_state, pooled_output"
    assert captured.out == f"tiny in {precision} on {isa} has the bits of the export: {outputs}\n"
    assert captured.err == ""


def test_other_bits_are_an_error(path, capsys):
    manifest = Manifest.read(path)
    replace(manifest, config=replace(manifest.config, layer_norm_eps=1e-7)).write(path)
    assert main([str(path), "--prove", "--backend", "native"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith("albert-predict: error: tiny: last_hidden_state in fp32 on ")


def test_an_artifact_without_a_proof(make_artifact, capsys):
    assert main([str(make_artifact()), "--prove"]) == 2
    assert "export the model again" in capsys.readouterr().err


def test_it_takes_no_file(path, capsys):
    with pytest.raises(SystemExit) as raised:
        main([str(path), "-", "--prove"])
    assert raised.value.code == 2 and "leave FILE out" in capsys.readouterr().err
