"""Torch archives that lie: each ends in one line, runs no code, takes no more memory than its size."""

import io
import pickle
import struct
import zipfile
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from albert_export.checkpoint.torch_legacy import MAGIC

from ..hostile import A, read, refused, survives_flips


class Reference:
    """Pickles as a persistent id."""

    def __init__(self, *identity):
        self.identity = identity


class Named:
    """Pickles as a global name, which need not exist."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    """Pickles as a call of a Named."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return _call, (self.function, self.arguments)


def _call():
    raise AssertionError


class _Pickler(pickle._Pickler):  # the one in Python lets names be written that do not exist
    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def persistent_id(self, obj):
        return obj.identity if isinstance(obj, Reference) else None

    def _named(self, obj):
        self.write(f"c{obj.module}\n{obj.name}\n".encode())

    def _call(self, obj):
        self.save(obj.function)
        self.save(obj.arguments)
        self.write(pickle.REDUCE)

    dispatch[Named] = _named
    dispatch[Call] = _call


def dumps(value):
    stream = io.BytesIO()
    _Pickler(stream, 2).dump(value)
    return stream.getvalue()


FLOAT = Named("torch", "FloatStorage")
REBUILD = Named("torch._utils", "_rebuild_tensor_v2")


def storage(key="0", size=6, kind=FLOAT):
    return Reference("storage", kind, key, "cpu", size)


def tensor(store=None, offset=0, shape=(2, 3), strides=(3, 1)):
    hooks = Call(Named("collections", "OrderedDict"))
    return Call(REBUILD, storage() if store is None else store, offset, shape, strides, False, hooks)


BYTES = A.tobytes()


def torch_archive(tmp_path, state, data=BYTES, method=zipfile.ZIP_STORED, extra=()):
    path = tmp_path / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("archive/data.pkl", state if isinstance(state, bytes) else dumps(state))
        archive.writestr("archive/byteorder", b"little")
        archive.writestr("archive/data/0", data)
        for name, content in extra:
            archive.writestr(name, content)
    return path


def test_torch_archives(tmp_path):
    views = {
        "a": tensor(),
        "turned": tensor(shape=(3, 2), strides=(1, 3)),
        "last": tensor(offset=5, shape=(1,), strides=(1,)),
        "number": tensor(offset=1, shape=(), strides=()),
        "none": tensor(offset=6, shape=(0, 3), strides=(3, 1)),
    }
    result = read(torch_archive(tmp_path, views))
    np.testing.assert_array_equal(result["a"], A)
    np.testing.assert_array_equal(result["turned"], A.T)
    assert (result["last"], result["number"], result["none"].shape) == (5, 1, (0, 3))


LYING_ARCHIVES = {
    "os.system": (Call(Named("os", "system"), "touch hacked"), r"the name 'os\.system'"),
    "eval": (Call(Named("builtins", "eval"), "open('hacked', 'w')"), r"the name 'builtins\.eval'"),
    "torch.load": (Call(Named("torch", "load"), "x"), r"the name 'torch\.load'"),
    "numpy": (Named("numpy", "ndarray"), r"the name 'numpy\.ndarray'"),
    "call of a storage": (Call(FLOAT, 3), "a call that builds no tensor"),
    "call of a result": (Call(tensor(), 3), "a call that builds no"),
    "chain": (Call(Call(Call(REBUILD)), "touch hacked"), "a call that builds no tensor"),
    "ordered pairs": (Call(Named("collections", "OrderedDict"), [("a", 1)]), "a call that builds no tensor"),
    "another reference": (Reference("module", "os"), "a reference to something that is no storage"),
    "storage of names": (storage(kind=REBUILD), "a reference to something that is no storage"),
    "no such storage": (tensor(storage("1")), "no storage of the right size for a"),
    "path as a key": (tensor(storage("../../etc/passwd")), "no storage of the right size"),
    "larger storage": (tensor(storage(size=7)), "no storage of the right size"),
    "huge storage": (tensor(storage(size=1 << 62)), "no storage of the right size"),
    "other type": (tensor(storage(kind=Named("torch", "DoubleStorage"))), "no storage of the right size"),
    "negative offset": (tensor(offset=-1), "whole numbers"),
    "negative stride": (tensor(strides=(-3, 1)), "whole numbers"),
    "negative shape": (tensor(shape=(-1, 3)), "whole numbers"),
    "text in a shape": (tensor(shape=("2", 3)), "whole numbers"),
    "shape and strides": (tensor(strides=(1,)), "strides do not fit its shape"),
    "offset": (tensor(offset=1), "a reaches beyond its storage"),
    "strides": (tensor(strides=(4, 1)), "a reaches beyond its storage"),
    "expanded": (tensor(shape=(1 << 40,), strides=(0,)), "a reaches beyond its storage"),
    "overflow": (tensor(shape=(1 << 62, 1 << 62), strides=(1 << 62, 0)), "a reaches beyond its storage"),
}


@pytest.mark.parametrize("case", LYING_ARCHIVES)
def test_lying_torch_archives(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    value, words = LYING_ARCHIVES[case]
    refused(torch_archive(tmp_path, {"a": value}), words)
    assert not (tmp_path / "hacked").exists()


def test_archives_that_are_bombs(tmp_path):
    zeros = bytes(50_000_000)
    packed = torch_archive(
        tmp_path, {"a": tensor(storage(size=len(zeros) // 4))}, zeros, zipfile.ZIP_DEFLATED
    )
    assert packed.stat().st_size < 100_000
    refused(packed, "is compressed")
    refused(torch_archive(tmp_path, bytes(70_000_000)), "far larger than names and shapes")


def test_archives_with_odd_members(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = torch_archive(tmp_path, {"a": tensor()}, extra=[("archive/data/0", bytes(24))])
    refused(path, "holds data/0 twice")
    refused(torch_archive(tmp_path, dumps([1])), "not a state dict")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", "")
    refused(path, r"holds no data\.pkl")
    path = torch_archive(tmp_path, {"a": tensor()})
    path.write_bytes(path.read_bytes().replace(b"little", b"bigbig"))
    refused(path, "truncated or no torch archive")  # its checksum is wrong
    path = torch_archive(tmp_path, {"a": tensor()})
    damaged = path.read_bytes().replace(A.tobytes(), A.tobytes()[::-1])
    path.write_bytes(damaged)
    refused(path, "truncated or no torch archive")


def test_archives_of_other_machines_and_times(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", dumps({}))
        archive.writestr("archive/byteorder", b"big")
    refused(path, "big-endian")
    for data in (b"", b"hello", pickle.dumps({"a": 1}), MAGIC[:-1]):
        path.write_bytes(data)
        refused(path, "truncated or no torch archive")


def legacy(tmp_path, state, *, version=1001, system=None, keys=("0",), count=6, data=BYTES):
    """A file as torch wrote them before 1.6."""
    system = {"little_endian": True} if system is None else system
    pickles = b"".join(map(dumps, (version, system, state, list(keys))))
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(MAGIC + pickles + struct.pack("<Q", count) + data)
    return path


def old_storage(**changes):
    """Persistent ids had a sixth part, for storages within storages."""
    plain = storage(**changes)
    return Reference(*plain.identity, None)


def test_old_files(tmp_path):
    views = {"a": tensor(old_storage()), "last": tensor(old_storage(), 5, (1,), (1,))}
    result = read(legacy(tmp_path, views))
    np.testing.assert_array_equal(result["a"], A)
    assert result["last"] == 5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 1000}, "another version of torch"),
        ({"system": {"little_endian": False}}, "big-endian"),
        ({"system": [1]}, "big-endian"),
        ({"state": [1]}, "not a state dict"),
        ({"state": {"a": Call(Named("os", "system"), "touch hacked")}}, r"the name 'os\.system'"),
        (
            {"state": {"a": tensor(Reference("storage", FLOAT, "0", "cpu", 6, ("1", 0, 6)))}},
            "within a storage",
        ),
        ({"state": {"a": tensor(), "b": tensor(storage(size=5))}}, "two types or sizes"),
        ({"state": {"a": tensor(storage(size=-6))}}, "storage 0 is not whole"),
        ({"keys": ["1"]}, "a storage that no tensor names"),
        ({"keys": [["0"]]}, "a storage that no tensor names"),
        ({"keys": []}, "no storage of the right size"),
        ({"keys": ["0", "0"]}, "or one twice"),
        ({"count": 5}, "storage 0 is not whole"),
        ({"count": 1 << 63}, "storage 0 is not whole"),
        ({"data": BYTES[:-1]}, "storage 0 is not whole"),
    ],
)
def test_lying_old_files(tmp_path, monkeypatch, changes, words):
    monkeypatch.chdir(tmp_path)
    refused(legacy(tmp_path, **{"state": {"a": tensor()}, **changes}), words)
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("make", [torch_archive, legacy])
@settings(max_examples=300, deadline=None)
@given(
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4),
    keep=st.floats(0.5, 1.0),
)
def test_flipped_bytes_never_escape(tmp_path_factory, make, flips, keep):
    views = {"a": tensor(), "b": tensor(shape=(1,), strides=(1,))}
    path = make(tmp_path_factory.getbasetemp(), views)
    survives_flips(path, flips, keep)
