"""Artifact: found by any of its names; missing, truncated and damaged files."""

import os
import shutil

import pytest

from albert_runtime.artifact import artifact as module
from albert_runtime.artifact.artifact import Artifact
from albert_runtime.errors import ArtifactError


def refusal(path):
    with pytest.raises(ArtifactError) as caught:
        Artifact.open(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["tiny.pdmodel", "tiny.onnx", "tiny.manifest.json", "tiny", "", "."])
@pytest.mark.parametrize("kind", [str, None, os.fsencode])
def test_every_name_finds_the_artifact(make_artifact, name, kind):
    manifest = make_artifact()
    path = manifest.parent / name
    artifact = Artifact.open(path if kind is None else kind(path))
    assert artifact.stem == "tiny"
    assert artifact.manifest.name == "tiny"
    assert artifact.files["weights"] == manifest.parent / "tiny.pdiparams"
    assert set(artifact.files) == {"program", "weights", "onnx"}


@pytest.mark.parametrize("name", ["tiny.pdmodel", "./tiny", "."])
def test_relative_to_the_current_folder(make_artifact, monkeypatch, name):
    monkeypatch.chdir(make_artifact().parent)
    assert Artifact.open(name).manifest.name == "tiny"


def test_a_json_program_and_a_stem_with_dots(make_artifact):
    manifest = make_artifact("albert-v1.1")
    folder = manifest.parent
    (folder / "albert-v1.1.pdmodel").rename(folder / "albert-v1.1.json")
    manifest.write_text(manifest.read_text().replace("albert-v1.1.pdmodel", "albert-v1.1.json"))
    for name in ("albert-v1.1.json", "albert-v1.1", "albert-v1.1.manifest.json"):
        artifact = Artifact.open(folder / name)
        assert artifact.files["program"].name == "albert-v1.1.json"
    assert "albert-v1.1.pdmodel is no file of albert-v1.1.manifest.json" in refusal(
        folder / "albert-v1.1.pdmodel"
    )


def test_a_folder_with_several_manifests_lists_them(make_artifact):
    folder = make_artifact("a").parent
    make_artifact("b")
    message = refusal(folder)
    assert "fits several artifacts; name one of" in message
    assert str(folder / "a.manifest.json") in message
    assert str(folder / "b.manifest.json") in message
    assert Artifact.open(folder / "b").stem == "b"


def test_a_folder_beside_an_artifact_of_the_same_name(make_artifact, tmp_path):
    manifest = make_artifact()
    checkpoint = manifest.parent / "tiny"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text("{}")
    assert Artifact.open(checkpoint).manifest.name == "tiny"
    make_artifact("other", folder=checkpoint)
    message = refusal(checkpoint)
    assert "several artifacts" in message
    assert "other.manifest.json" in message


@pytest.mark.parametrize("suffix", [".pdmodel", ".pdiparams", ".onnx"])
def test_missing_and_truncated_files(make_artifact, suffix):
    manifest = make_artifact()
    path = manifest.with_name(f"tiny{suffix}")
    size = path.stat().st_size
    os.truncate(path, size - 1)
    assert f"{path} is truncated ({size - 1} bytes instead of {size}); restore it or export" in refusal(
        manifest
    )
    os.truncate(path, size + 1)
    assert f"{path} is not the exported file ({size + 1} bytes instead of {size})" in refusal(manifest)
    path.unlink()
    assert f"{path} is missing; restore it or export the model again" in refusal(manifest)
    path.mkdir()
    assert f"{path} is missing" in refusal(manifest)


@pytest.mark.parametrize("suffix", [".pdmodel", ".pdiparams", ".onnx"])
def test_verify_names_the_damaged_file(make_artifact, suffix):
    manifest = make_artifact()
    Artifact.open(manifest).verify()
    path = manifest.with_name(f"tiny{suffix}")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    artifact = Artifact.open(manifest)  # a flipped bit leaves the size
    with pytest.raises(
        ArtifactError, match=f"tiny{suffix} is corrupted .sha256 .* restore it or export the model"
    ):
        artifact.verify()


def test_a_file_found_good_is_not_read_again(make_artifact, monkeypatch):
    artifact = Artifact.open(make_artifact())
    artifact.verify()
    monkeypatch.setattr(module, "sha256_file", None)
    artifact.verify_file("weights")
    artifact.files["weights"].write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"tiny\.pdiparams was replaced while the model was loaded"):
        artifact.verify_file("weights")


def test_a_file_that_cannot_be_read(make_artifact):
    artifact = Artifact.open(make_artifact())
    artifact.files["weights"].unlink()
    with pytest.raises(ArtifactError, match=r"tiny\.pdiparams: cannot be read \(No such file"):
        artifact.verify()


def test_nothing_there(tmp_path):
    assert "no exported model; make one with albert-export" in refusal(tmp_path)
    assert f"{tmp_path / 'x.pdmodel'} does not exist" in refusal(tmp_path / "x.pdmodel")
    assert "x.manifest.json exists; export it with albert-export" in refusal(tmp_path / "x")
    (tmp_path / "x.txt").write_text("")
    assert "x.txt is no program; pass a .pdmodel" in refusal(tmp_path / "x.txt")
    assert "exists; export it with albert-export" in refusal("a\0b")
    assert "cannot be read (File name too long)" in refusal(tmp_path / ("x" * 300))


def test_an_unreadable_manifest(make_artifact, monkeypatch):
    manifest = make_artifact()
    target = manifest.with_name("loop.manifest.json")
    target.symlink_to(target)
    message = refusal(target)  # a link to itself
    assert "loop.manifest.json" in message


@pytest.fixture
def bare(make_artifact):
    """A folder whose program lost its manifest."""
    manifest = make_artifact()
    manifest.unlink()
    return manifest.parent


def test_a_program_without_manifest(bare):
    for name in ("tiny.pdmodel", "tiny.onnx", "tiny", ""):
        artifact = Artifact.open(bare / name)
        assert artifact.manifest is None
        assert artifact.stem == "tiny"
        assert set(artifact.files) == {"program", "weights", "onnx"}
    with pytest.raises(ArtifactError, match=r"tiny has no tiny\.manifest\.json to verify it with"):
        artifact.verify()
    (bare / "tiny.tokenizer.json").write_text("{}")
    assert Artifact.open(bare).files["tokenizer"] == bare / "tiny.tokenizer.json"


def test_a_bare_program_needs_its_weights(bare):
    (bare / "tiny.pdiparams").unlink()
    assert "tiny.pdmodel needs tiny.pdiparams beside it" in refusal(bare / "tiny.pdmodel")
    assert set(Artifact.open(bare / "tiny.onnx").files) == {"onnx"}
    (bare / "tiny.onnx").unlink()
    assert "tiny.pdmodel needs tiny.pdiparams beside it" in refusal(bare)
    assert "tiny.onnx does not exist" in refusal(bare / "tiny.onnx")


def test_a_bare_json_counts_with_weights_or_when_named(bare):
    (bare / "tiny.pdmodel").rename(bare / "tiny.json")
    (bare / "config.json").write_text("{}")
    assert Artifact.open(bare).files["program"] == bare / "tiny.json"
    assert "config.json needs config.pdiparams beside it" in refusal(bare / "config.json")


def test_the_named_program_wins(bare):
    shutil.copy(bare / "tiny.pdmodel", bare / "tiny.json")
    assert Artifact.open(bare / "tiny.json").files["program"].name == "tiny.json"
    assert Artifact.open(bare / "tiny.pdmodel").files["program"].name == "tiny.pdmodel"
    assert Artifact.open(bare / "tiny").files["program"].name == "tiny.pdmodel"


def test_a_folder_with_several_bare_programs(bare):
    shutil.copy(bare / "tiny.onnx", bare / "other.onnx")
    assert "holds several programs; name one of other.onnx, tiny.onnx, tiny.pdmodel" in refusal(bare)
