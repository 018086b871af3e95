"""Checksums, atomic writes and the cache folder."""

import hashlib
from pathlib import Path

import pytest

from albert_runtime.files import cache_folder, cache_name, cache_root, sha256_file, write_atomically


def test_sha256_of_a_file_longer_than_a_block(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"ab" * 2_000_000)
    assert sha256_file(path) == hashlib.sha256(b"ab" * 2_000_000).hexdigest()
    with pytest.raises(OSError, match="No such file"):
        sha256_file(tmp_path / "none")


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 0), (3, 5), (1, 2**20), (7, 2**20 + 9), (5, None), (9, 1)]
)
def test_sha256_of_a_part_of_a_file(tmp_path, offset, length):
    path, data = tmp_path / "file", bytes(range(251)) * 9000
    path.write_bytes(data)
    end = None if length is None else offset + length
    assert sha256_file(path, offset, length) == hashlib.sha256(data[offset:end]).hexdigest()


def test_a_part_that_reaches_beyond_the_end_is_what_there_is(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert sha256_file(path, 1, 100) == hashlib.sha256(b"bc").hexdigest()


def test_writing_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "note.json"
    for data in (b"old", b"new content"):
        write_atomically(path, data)
        assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "note.json"
    write_atomically(path, b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("xdg", [None, "", "relative", "./relative"])
def test_a_missing_or_relative_xdg_cache_home_is_ignored(monkeypatch, tmp_path, xdg):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if xdg is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    assert cache_root() == tmp_path / ".cache" / "albert-runtime"
    assert cache_folder("packed") == tmp_path / ".cache" / "albert-runtime" / "packed"


def test_an_absolute_xdg_cache_home_is_used(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder("tensorrt") == Path("/xdg/albert-runtime/tensorrt")


def test_without_a_home_there_is_no_cache(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert cache_root() is None and cache_folder("packed") is None


def test_a_cache_name_holds_plain_letters_only():
    assert cache_name("../a b\n", "0123456789abcdef0123") == ".._a_b_-0123456789abcdef"
