"""Packed weights in a cache file give the same bits as in memory, and an invalid file is never used."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from albert_runtime import _native

from .model import Model, config, make_model, run, tokens

KEY = bytes(range(32))
HEADER, LAST = 4096, -1


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return make_model(tmp_path_factory.mktemp("model"), config())


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder / "packed.bin"


def cached(model: Model, cache: Path, key: bytes = KEY, **changes: Any) -> _native.Engine:
    """An engine with a cache file. It must call before_packing if it packs, and only then."""
    asked: list[bool] = []
    engine = model.engine(
        cache_path=str(cache), cache_key=key, before_packing=lambda: asked.append(True), **changes
    )
    assert len(asked) == (0 if engine.found_packed else 1)
    return engine


def same_answers(engine: _native.Engine, expected: _native.Engine) -> bool:
    batch = tokens([5, 9])
    return all(
        np.array_equal(a, b) for a, b in zip(run(engine, 64, batch), run(expected, 64, batch), strict=True)
    )


def mapped_as(path: Path) -> set[str]:
    """The permissions of this process's mappings of the file, also under its temporary name."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line.split()[1] for line in lines if str(path) in line}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("isa", _native.isas())
def test_the_same_bits_wherever_the_weights_lie(model: Model, cache: Path, precision: str, isa: str) -> None:
    memory = model.engine(precision=precision, isa=isa)
    written = cached(model, cache, precision=precision, isa=isa)
    found = cached(model, cache, precision=precision, isa=isa)
    assert (written.found_packed, found.found_packed) == (False, True)
    assert (memory.packed_file, written.packed_file, found.packed_file) == ("", str(cache), str(cache))
    assert same_answers(written, memory)
    assert same_answers(found, memory)
    assert written.packed_bytes == found.packed_bytes == memory.packed_bytes
    assert memory.cache_problem == written.cache_problem == found.cache_problem == ""


def test_nobody_can_write_to_packed_weights(model: Model, cache: Path) -> None:
    written = cached(model, cache)
    assert mapped_as(cache) == {"r--s"}
    found = cached(model, cache)
    assert mapped_as(cache) == {"r--s"}
    assert cache.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in cache.parent.iterdir()] == [cache.name]
    assert same_answers(written, found)


def flip(at: int) -> Callable[[bytes], bytes]:
    def change(raw: bytes) -> bytes:
        changed = bytearray(raw)
        changed[at] ^= 1
        return bytes(changed)

    return change


def swap_blocks(raw: bytes) -> bytes:
    return raw[:HEADER] + raw[HEADER + 64 : HEADER + 128] + raw[HEADER : HEADER + 64] + raw[HEADER + 128 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "magic": flip(0),
    "format": flip(8),
    "key": flip(16),
    "end of the key": flip(47),
    "size": flip(48),
    "source": flip(56),
    "sum": flip(64),
    "rest of the header": flip(HEADER - 1),
    "first byte": flip(HEADER),
    "some byte": flip(HEADER + 54321),
    "last byte": flip(LAST),
    "two blocks changed places": swap_blocks,
    "truncated by one": lambda raw: raw[:-1],
    "truncated to a page": lambda raw: raw[:HEADER],
    "truncated in the header": lambda raw: raw[:10],
    "empty": lambda raw: b"",
    "grown": lambda raw: raw + b"\0",
    "another file": lambda raw: b"#!/bin/sh\n",
    "zeros": lambda raw: bytes(len(raw)),
    "header alone": lambda raw: raw[:HEADER] + bytes(len(raw) - HEADER),
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_file_is_replaced(model: Model, cache: Path, change: Callable[[bytes], bytes]) -> None:
    cached(model, cache)
    good = cache.read_bytes()
    bad = change(good)
    assert bad != good
    cache.write_bytes(bad)
    engine = cached(model, cache)
    assert not engine.found_packed
    assert engine.cache_problem
    assert engine.packed_file == str(cache)
    assert same_answers(engine, model.engine())
    assert cache.read_bytes() == good  # packing gives the same file each time
    assert cached(model, cache).found_packed


@pytest.mark.parametrize("changes", [{"key": bytes(32)}, {"precision": "int8"}, {"isa": "generic"}])
def test_a_file_of_other_weights_is_replaced(model: Model, cache: Path, changes: dict[str, Any]) -> None:
    """Keys differ between precisions; even with the same key, a file of another size is rejected."""
    cached(model, cache)
    if changes == {"isa": "generic"}:
        changes["key"] = KEY[::-1]
    engine = cached(model, cache, **changes)
    assert not engine.found_packed
    changes = {name: value for name, value in changes.items() if name != "key"}
    assert same_answers(engine, model.engine(**changes))


def test_the_words_are_read_from_the_weight_file_and_must_be_those(
    tmp_path: Path, model: Model, cache: Path
) -> None:
    raw = bytearray(model.path.read_bytes())
    name = "embeddings.word_embeddings.weight"
    raw[model.tensors[name][1] + 100] ^= 1
    other = tmp_path / "other.bin"
    other.write_bytes(raw)
    cached(model, cache)
    engine = cached(model, cache, path=other)
    assert not engine.found_packed
    assert same_answers(engine, model.engine(path=other))


def test_what_the_caller_finds_wrong_ends_it(model: Model, cache: Path) -> None:
    def refuse() -> None:
        raise LookupError("not these weights")

    with pytest.raises(LookupError, match="not these weights"):
        model.engine(cache_path=str(cache), cache_key=KEY, before_packing=refuse)
    assert list(cache.parent.iterdir()) == []


def test_a_key_of_another_length(model: Model, cache: Path) -> None:
    with pytest.raises(ValueError, match="cache_key must have 32 bytes"):
        model.engine(cache_path=str(cache), cache_key=b"short")


def make_folder(path: Path) -> None:
    path.mkdir()


def make_link(path: Path) -> None:
    path.symlink_to(path.with_name("target"))
    path.with_name("target").write_bytes(b"not to be touched")


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "problem", "replaced"),
    [(make_folder, "is no file", False), (make_link, "symbolic link", True), (make_pipe, "is no file", True)],
)
def test_what_is_no_file(
    model: Model, cache: Path, make: Callable[[Path], None], problem: str, replaced: bool
) -> None:
    make(cache)
    engine = cached(model, cache)
    assert engine.packed_file == (str(cache) if replaced else "")
    assert problem in engine.cache_problem if replaced else engine.cache_problem
    assert same_answers(engine, model.engine())
    assert cached(model, cache).found_packed == replaced
    assert {path.name for path in cache.parent.iterdir()} <= {cache.name, "target"}
    if make is make_link:
        assert cache.with_name("target").read_bytes() == b"not to be touched"


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_to_is_replaced(model: Model, cache: Path, mode: int) -> None:
    cached(model, cache)
    cache.chmod(mode)
    engine = cached(model, cache)
    assert not engine.found_packed
    assert engine.cache_problem == "others may write to it"
    assert cache.stat().st_mode & 0o777 == 0o600
    assert cached(model, cache).found_packed


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_not_used(model: Model, cache: Path) -> None:
    cached(model, cache)
    os.chown(cache, 12345, -1)
    engine = cached(model, cache)
    assert not engine.found_packed
    assert engine.cache_problem == "belongs to another user"


@pytest.mark.parametrize("place", ["missing/packed.bin", "weights.bin/packed.bin"])
def test_a_folder_that_cannot_be_written_to(model: Model, place: str) -> None:
    engine = cached(model, model.path.parent / place)
    assert engine.packed_file == ""
    assert engine.cache_problem
    assert same_answers(engine, model.engine())


FULL = """
import resource, sys
from pathlib import Path
from tests.native.model import config, make_model, run, tokens
folder = Path(sys.argv[1])
model = make_model(folder, config())
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, resource.RLIM_INFINITY))
engine = model.engine(cache_path=str(folder / "cache" / "packed.bin"), cache_key=bytes(32))
run(engine, 64, tokens([5]))
assert engine.packed_file == "", engine.packed_file
print(engine.cache_problem)
"""


def test_no_room_on_the_disk(cache: Path) -> None:
    """A file size limit stands in for a full disk: the space is allocated before anything is written."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    folder = cache.parent.parent
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), root]))
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(folder)],
        env=os.environ | {"PYTHONPATH": path},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "too large" in done.stdout
    assert list(cache.parent.iterdir()) == []
