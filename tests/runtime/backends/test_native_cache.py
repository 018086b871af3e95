"""Packed weights kept in files: where, what for, how they go, and that processes share them."""

import logging
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from albert_runtime import Predictor, _native
from albert_runtime.artifact.manifest import Manifest
from albert_runtime.backends import native_cache
from albert_runtime.backends.native_cache import VARIABLE, PackedFile
from albert_runtime.errors import ArtifactError

BATCH = [[5, 6, 7, 8], [9], [4, 3, 2]]
MONTH = 31 * 86400


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty cache, not made yet."""
    path = tmp_path / "packed"
    monkeypatch.setenv(VARIABLE, str(path))
    return path


def packed_in(manifest, **options):
    """Where a Predictor of its own has its weights, and what it answers."""
    predictor = Predictor(manifest, backend="native", **options)
    return predictor.info()["packed_in"], predictor.run(BATCH)


def warnings_in(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_answers_are_the_same_from_memory_new_and_kept(make_artifact, folder, monkeypatch, caplog, precision):
    manifest = make_artifact()
    (new, first), (kept, second) = (packed_in(manifest, precision=precision) for _ in range(2))
    monkeypatch.setenv(VARIABLE, "0")
    memory, third = packed_in(manifest, precision=precision)
    assert memory == "memory"
    assert new == kept
    assert [str(path) for path in folder.iterdir()] == [new]
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])
        np.testing.assert_array_equal(values, third[name])
    assert folder.stat().st_mode & 0o777 == 0o700
    assert warnings_in(caplog) == []


def test_nothing_is_written_when_turned_off(make_artifact, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv(VARIABLE, "0")
    assert packed_in(make_artifact())[0] == "memory"
    assert not (tmp_path / "xdg").exists()


@pytest.mark.parametrize("value", [None, "", "1"])
def test_the_default_place(make_artifact, tmp_path, monkeypatch, value):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if value is None:
        monkeypatch.delenv(VARIABLE)
    else:
        monkeypatch.setenv(VARIABLE, value)
    place = Path(packed_in(make_artifact())[0])
    assert place.parent == tmp_path / "xdg" / "albert-runtime" / "packed"
    assert place.name.startswith("tiny-")


def test_without_a_home_there_is_no_file(make_artifact, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv(VARIABLE)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert packed_in(make_artifact())[0] == "memory"


def test_a_place_that_utf8_cannot_say(make_artifact, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    assert packed_in(make_artifact())[0] == "memory"


def test_all_that_packed_weights_depend_on_is_in_the_key(make_artifact, tmp_path, folder, monkeypatch):
    manifest = Manifest.read(make_artifact())
    weights = manifest.files["weights"]
    first, *others = manifest.tensors
    manifests = [
        manifest,
        replace(manifest, files=manifest.files | {"weights": replace(weights, sha256="0" * 64)}),
        replace(manifest, config=replace(manifest.config, hidden_act="relu")),
        replace(manifest, tensors=(replace(first, offset=first.offset + 1), *others)),
        Manifest.read(make_artifact(folder=tmp_path / "head", task="question-answering")),
    ]
    files = [PackedFile.of(m, "fp32", "generic") for m in manifests]
    files += [PackedFile.of(manifest, "int8", "generic"), PackedFile.of(manifest, "fp32", "avx2")]
    monkeypatch.setattr(native_cache, "_EXTENSION", "0" * 64)
    files.append(PackedFile.of(manifest, "fp32", "generic"))
    assert len({file.key for file in files}) == len(files)
    assert len({file.path for file in files}) == len(files)


def test_a_name_from_outside_stays_in_the_folder(make_artifact, folder):
    manifest = Manifest.read(make_artifact())
    for name in ("../../outside", "/etc/passwd", "a\0b", "", "\ud800", "long" * 200):
        path = PackedFile.of(replace(manifest, name=name), "fp32", "generic").path
        assert path.parent == folder
        assert len(path.name) < 150
        assert path.name.isascii()


LOAD = """
import sys
from albert_runtime import Predictor
from albert_runtime.artifact.artifact import Artifact
Artifact.verify_file = lambda self, role: print("packs")
print(Predictor(sys.argv[1], backend="native").info()["packed_in"])
"""


def test_another_process_does_not_pack(make_artifact, folder):
    manifest = str(make_artifact())

    def load():
        done = subprocess.run(
            [sys.executable, "-c", LOAD, manifest], check=True, capture_output=True, text=True
        )
        return done.stdout.splitlines()

    packs, place = load()
    assert packs == "packs"
    written = Path(place).stat()
    os.utime(place, (1, 1))
    assert load() == [place]
    used = Path(place).stat()
    assert used.st_ino == written.st_ino
    assert time.time() - used.st_mtime < 1000  # so that it is not taken for unused


def test_a_damaged_file_is_told_and_replaced(make_artifact, folder, caplog):
    manifest = make_artifact()
    place, expected = packed_in(manifest)
    raw = bytearray(Path(place).read_bytes())
    raw[-1] ^= 1
    Path(place).write_bytes(raw)
    again, answers = packed_in(manifest)
    assert again == place
    assert warnings_in(caplog) == [f"packed weights {place}: is damaged; it is replaced"]
    for name, values in expected.items():
        np.testing.assert_array_equal(values, answers[name])
    assert packed_in(manifest)[0] == place
    assert len(warnings_in(caplog)) == 1


def test_a_folder_that_is_a_file_is_told(make_artifact, folder, caplog):
    folder.write_bytes(b"")
    place, _ = packed_in(make_artifact())
    assert place == "memory"
    (warning,) = warnings_in(caplog)
    assert "Not a directory; not used, the weights are in memory" in warning


def test_weights_are_verified_unless_they_are_kept_packed(make_artifact, folder):
    manifest = make_artifact()
    path = manifest.with_name("tiny.pdiparams")
    _, expected = packed_in(manifest)
    raw = path.read_bytes()
    path.write_bytes(raw[:-10] + bytes([raw[-10] ^ 4]) + raw[-9:])  # is not read: it is packed already
    _, answers = packed_in(manifest)
    np.testing.assert_array_equal(answers["pooled_output"], expected["pooled_output"])
    name = "embeddings.word_embeddings.weight"
    words = next(tensor for tensor in Manifest.read(manifest).tensors if tensor.name == name)
    at = words.offset + 40
    path.write_bytes(raw[:at] + bytes([raw[at] ^ 4]) + raw[at + 1 :])
    with pytest.raises(ArtifactError, match=r"tiny\.pdiparams is corrupted"):
        packed_in(manifest)


def test_files_that_nobody_used_for_a_month_go(make_artifact, folder):
    folder.mkdir()
    magic, key = b"ALBPACK\0" + bytes(100), "0123456789abcdef"
    kept = {
        f"recent-{key}.bin": (magic, 1000),
        f"recent-{key}.bin.abcdef": (magic, 1000),
        f"other-{key}.bin": (b"somebody else's", MONTH),
        "notes.bin": (magic, MONTH),
    }
    gone = {f"old-{key}.bin": (magic, MONTH), f"old-{key}.bin.aB3dEf": (magic, 7200)}
    for name, (content, age) in (kept | gone).items():
        (folder / name).write_bytes(content)
        os.utime(folder / name, (time.time() - age,) * 2)
    (folder / f"folder-{key}.bin").mkdir()
    os.utime(folder / f"folder-{key}.bin", (1, 1))
    place, _ = packed_in(make_artifact())
    assert {path.name for path in folder.iterdir()} == {*kept, Path(place).name, f"folder-{key}.bin"}


# Tens of MB packed; with 1 token in a batch there is little else.
BIG = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}

WORKER = """
import sys
from pathlib import Path
from albert_runtime import Predictor
input()
predictor = Predictor(sys.argv[1], backend="native", num_threads=1)
predictor.run([[5]])
print(predictor.info()["packed_in"], flush=True)
input()
places = (str(Path(sys.argv[1]).parent), str(Path(predictor.info()["packed_in"]).parent))
size, ours = 0, False
for line in Path("/proc/self/smaps").read_text().splitlines():
    words = line.split()
    if not words[0].endswith(":"):
        ours = len(words) > 5 and words[5].startswith(places)
    elif words[0] == "Anonymous:" or (ours and words[0] == "Pss:"):
        size += int(words[1])
print(size, flush=True)
input()
"""


def memory_of_workers(count, manifest):
    """The places of the weights of ``count`` processes that load at once, and the kB of all together.

    Counted are what each process allocated and its share of the artifact and of the packed weights. Its share
    of the libraries is not: it changes with the tests that run at the same time.
    """
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(manifest)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]

    def ask():
        for worker in workers:
            worker.stdin.write("\n")
            worker.stdin.flush()
        return [worker.stdout.readline().strip() for worker in workers]

    try:
        places, sizes = ask(), ask()
    finally:
        for worker in workers:
            worker.communicate("\n", timeout=60)
    assert [worker.returncode for worker in workers] == [0] * count
    return places, sum(map(int, sizes))


@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="a sanitizer's own memory would be measured")
def test_four_workers_take_the_memory_of_one(make_artifact, tmp_path, folder):
    big, tiny = make_artifact(folder=tmp_path / "big", **BIG), make_artifact(folder=tmp_path / "tiny")
    base = {count: memory_of_workers(count, tiny)[1] for count in (1, 4)}
    places, together = memory_of_workers(4, big)  # none is packed yet: all four pack
    assert len(set(places)) == 1
    assert places[0] != "memory"
    later, afterwards = memory_of_workers(4, big)
    _, alone = memory_of_workers(1, big)
    assert later == places
    one = alone - base[1]
    assert one > 25_000
    assert together - base[4] <= 1.2 * one
    assert afterwards - base[4] <= 1.2 * one
    assert len(list(folder.iterdir())) == 2  # what the other three packed is gone


FORK = """
import os, sys
from pathlib import Path
import numpy as np
from albert_runtime import Predictor

def private_kb():
    lines = [line.split() for line in Path("/proc/self/smaps_rollup").open()]
    return sum(int(line[1]) for line in lines if line[0].startswith("Private_"))

predictor = Predictor(sys.argv[1], backend="native", num_threads=1)
before = predictor.run([[5, 6]])
assert predictor.info()["packed_in"] == "memory"
pid = os.fork()
if pid == 0:
    after = predictor.run([[5, 6]])
    same = all(np.array_equal(before[name], after[name]) for name in before)
    print(private_kb(), predictor.info()["packed_bytes"], flush=True)
    os._exit(0 if same else 1)
assert os.waitpid(pid, 0)[1] == 0
"""


@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="a sanitizer's own memory would be measured")
def test_a_forked_child_shares_what_lies_in_memory(make_artifact, monkeypatch):
    monkeypatch.setenv(VARIABLE, "0")
    command = [sys.executable, "-W", "ignore", "-c", FORK, str(make_artifact(**BIG))]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    private_kb, packed = map(int, done.stdout.split())
    assert packed > 25e6
    assert private_kb * 1024 < packed / 3


def test_the_extension_has_what_the_key_needs():
    assert native_cache._EXTENSION is not None
    assert Path(_native.__file__).is_file()
