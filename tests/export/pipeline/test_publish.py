"""Staging, publishing, replacing."""

import fcntl
import os

import pytest

from albert_export.errors import ExportError
from albert_export.names import is_plain_stem
from albert_export.pipeline.publish import check_space, check_target, publish, staging_folder

FILES = ["m.pdmodel", "m.pdiparams", "m.onnx", "m.manifest.json"]


def fill(folder, text, files=FILES):
    for name in files:
        content = text
        if name.endswith("manifest.json"):
            entries = ", ".join(f'"{i}": {{"name": "{file}"}}' for i, file in enumerate(files))
            content = f'{{"text": "{text}", "files": {{{entries}}}}}'
        (folder / name).write_text(content)


def test_files_arrive_and_staging_goes(tmp_path):
    with staging_folder(tmp_path) as folder:
        assert folder.parent == tmp_path and folder.name.startswith(".")
        fill(folder, "one")
        publish(folder, tmp_path, "m", FILES, force=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)


@pytest.mark.parametrize("error", [ExportError, KeyboardInterrupt, OSError])
def test_nothing_is_left_after_a_failure(tmp_path, error):
    target = tmp_path / "new" / "deeper"
    with pytest.raises(error), staging_folder(target) as folder:
        fill(folder, "one")
        raise error("stop")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_stays(tmp_path):
    target = tmp_path / "there"
    target.mkdir()
    with pytest.raises(ExportError), staging_folder(target):
        raise ExportError("stop")
    assert list(target.iterdir()) == []


def test_leftovers_of_a_killed_export_are_swept_but_not_those_of_a_running_one(tmp_path):
    dead, alive = tmp_path / ".albert-export-dead", tmp_path / ".albert-export-alive"
    for folder in (dead, alive):
        folder.mkdir()
        fill(folder, "old")
    (tmp_path / ".albert-export-link").symlink_to(alive)
    descriptor = os.open(alive, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with staging_folder(tmp_path) as own:
            assert not dead.exists()
            assert (alive / "m.onnx").exists()
            with staging_folder(tmp_path):
                assert own.exists()
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("name", [*FILES, "m.json", "m.tokenizer.json"])
def test_an_existing_target_needs_force(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ExportError, match="exists; replace the artifact with --force"):
        check_target(tmp_path, "m", force=False)
    with staging_folder(tmp_path) as folder:
        fill(folder, "new")
        with pytest.raises(ExportError, match="exists"):
            publish(folder, tmp_path, "m", FILES, force=False)
    assert (tmp_path / name).read_text() == "mine"
    check_target(tmp_path, "m", force=True)
    check_target(tmp_path, "other", force=False)


def test_force_replaces_the_whole_artifact(tmp_path):
    old = ["m.json", "m.pdiparams", "m.onnx", "m.tokenizer.json", "m.manifest.json"]
    fill(tmp_path, "old", old)
    (tmp_path / "other.onnx").write_text("other")
    with staging_folder(tmp_path) as folder:
        fill(folder, "new")
        publish(folder, tmp_path, "m", FILES, force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*FILES, "other.onnx"])
    assert (tmp_path / "m.onnx").read_text() == "new"


@pytest.mark.parametrize("manifest", [None, "{", "[]", '{"files": 3}', '{"files": {"a": {}}}'])
def test_force_leaves_a_json_file_that_is_no_program(tmp_path, manifest):
    (tmp_path / "m.json").write_text("a config of somebody else")
    if manifest is not None:
        (tmp_path / "m.manifest.json").write_text(manifest)
    with staging_folder(tmp_path) as folder:
        fill(folder, "new")
        publish(folder, tmp_path, "m", FILES, force=True)
    assert (tmp_path / "m.json").read_text() == "a config of somebody else"


def test_an_old_artifact_comes_back_if_publishing_fails(tmp_path):
    fill(tmp_path, "old")
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    with pytest.raises(FileNotFoundError), staging_folder(tmp_path) as folder:
        fill(folder, "new", FILES[:2])
        publish(folder, tmp_path, "m", FILES, force=True)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


def test_a_folder_in_the_way(tmp_path):
    (tmp_path / "m.onnx").mkdir()
    with pytest.raises(ExportError, match=r"m\.onnx is a folder; choose another"):
        check_target(tmp_path, "m", force=True)


def test_the_manifest_goes_first_and_comes_last(tmp_path, monkeypatch):
    """Whenever an export is killed while it publishes, there is no manifest, so there is no artifact."""
    fill(tmp_path, "old")
    seen = []
    replace = type(tmp_path).replace

    def watch(self, target):
        seen.append((self.name, (tmp_path / "m.manifest.json").exists()))
        return replace(self, target)

    monkeypatch.setattr(type(tmp_path), "replace", watch)
    with staging_folder(tmp_path) as folder:
        fill(folder, "new")
        publish(folder, tmp_path, "m", ["m.manifest.json", *FILES[:3]], force=True)
    assert seen[0] == ("m.manifest.json", True)
    assert {present for _, present in seen[1:]} == {False}
    assert [name for name, _ in seen[-4:]] == FILES


def test_space(tmp_path):
    check_space(tmp_path / "not" / "there", 1000)
    with pytest.raises(ExportError, match=r"free, the export needs 1000000000\.00 GB"):
        check_space(tmp_path, 10**18)


@pytest.mark.parametrize("stem", ["albert-base-v2", "my model", "模型", "a.b", "-x"])
def test_plain_stems(stem):
    assert is_plain_stem(stem)


@pytest.mark.parametrize(
    "stem", ["", ".", "..", ".hidden", "a/b", "a\\b", "a\nb", "a\0b", "x" * 201, "\udcff"]
)
def test_stems_that_are_refused(stem):
    assert not is_plain_stem(stem)
