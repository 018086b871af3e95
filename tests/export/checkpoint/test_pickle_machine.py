"""The reader of .pdparams: what numpy and paddle write, and nothing else, whatever a file tries."""

import builtins
import collections
import os
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from albert_export.checkpoint.pickle_machine import read_state_dict
from albert_runtime.errors import ArtifactError

STATE = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "swapped": np.arange(3, dtype=">f4"),
    "half": np.arange(3, dtype=np.float16),
    "ids": np.arange(4).reshape(1, 4),
    "StructuredToParameterName@@": {"a": "linear_0.w_0"},
}


def read(tmp_path, data):
    path = tmp_path / "x.pdparams"
    path.write_bytes(data)
    return read_state_dict(path)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_reads_what_pickle_writes(tmp_path, protocol):
    # Memoized twice: the same array under two names, as tied weights are stored.
    state = {**STATE, "tied": STATE["a"]}
    result = read(tmp_path, pickle.dumps(state, protocol))
    assert result.keys() == state.keys()
    for name, value in state.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(result[name], value)
            assert result[name].dtype == value.dtype
        else:
            assert result[name] == value


class Calls:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Slots:
    """Pickles as an object with state, built by NEWOBJ."""

    def __init__(self):
        self.value = 1


HOSTILE = {
    "os.system": Calls(os.system, "touch hacked"),
    "builtins.eval": Calls(builtins.eval, "open('hacked', 'w')"),
    "builtins.getattr": Calls(getattr, "", "join"),
    "nested": {"a": [({"b": Calls(os.system, "touch hacked")},)]},
    "as an array's state": [np.zeros(2), Calls(exec, "open('hacked', 'w')")],
    "object array": np.array([Calls(os.system, "touch hacked")], dtype=object),
    "instance": Slots(),
    "subclass": collections.OrderedDict(a=1),
    "numpy function": Calls(np.load, "x.npy", None, True),
    "codec": Calls(pickle.codecs.encode, "hacked", "rot13"),
    "text array": np.array(["text"]),
    "structured array": np.zeros(1, [("x", "f4")]),
    "number as key": {1: np.zeros(2)},
    "set": {1, 2},
    "big number": 1 << 5000,
}


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("what", HOSTILE)
def test_refuses_everything_else(tmp_path, monkeypatch, what, protocol):
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps({"weight": HOSTILE[what]}, protocol)
    with pytest.raises(ArtifactError, match=r"x\.pdparams"):
        read(tmp_path, data)
    assert not (tmp_path / "hacked").exists()


def test_message_names_what_was_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"the name 'posix\.system'"):
        read(tmp_path, pickle.dumps({"w": HOSTILE["os.system"]}))


def test_every_truncation_is_refused(tmp_path):
    data = pickle.dumps(STATE, 4)
    for length in range(0, len(data)):
        with pytest.raises(ArtifactError):
            read(tmp_path, data[:length])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04.",
        b"hello",
        b"\x80\x04}.trailing",
        b"\x80\x02Pid\n.",  # persistent id
        b"\x80\x02\x82\x01.",  # extension registry
        b"(ios\nsystem\nS'true'\no.",  # instance by INST
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x.",  # bytes longer than memory
        b"\x80\x04}\x8c\x01ar\xff\xff\xff\xff0.",  # memo index of 4 billion
        b"\x80\x02}q\x00(X\x01\x00\x00\x00ah\x00u.",  # holds itself
    ],
)
def test_odd_streams_end_in_an_error_or_a_dict(tmp_path, data):
    try:
        assert isinstance(read(tmp_path, data), dict)
    except ArtifactError as error:
        assert "\n" not in str(error)


@settings(max_examples=300, deadline=None)
@given(flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
def test_flipped_bytes_never_escape(tmp_path_factory, flips):
    data = bytearray(pickle.dumps(STATE, 4))
    for position, value in flips:
        data[position % len(data)] = value
    try:
        assert isinstance(read(tmp_path_factory.getbasetemp(), bytes(data)), dict)
    except ArtifactError as error:
        assert "\n" not in str(error)


def test_not_a_dict(tmp_path):
    with pytest.raises(ArtifactError, match="holds a list"):
        read(tmp_path, pickle.dumps([1, 2], 4))


# A tuple of one tuple, twice, sixty deep: small in memory, endless to print, hash or compare.
BOMB = b"N" + b"q\x00h\x00\x86" * 60


@pytest.mark.parametrize(
    "data",
    [
        BOMB + b"\x8c\x01a\x93.",  # as a module's name
        b"\x8c\x05numpy" + BOMB + b"\x93.",  # as a name
        b"}" + BOMB + b"Ns.",  # as a key
        b"cnumpy\ndtype\n" + BOMB + b"\x85R.",  # as a data type
        BOMB + BOMB + b"R.",  # as a function
        b"cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R" + BOMB + b"b.",  # as a state
        b"cnumpy\ncore\n" + b"(" * 10_000 + b".",
    ],
)
def test_bombs_of_tuples(tmp_path, data):
    with pytest.raises(ArtifactError) as caught:
        read(tmp_path, b"\x80\x04" + data)
    assert len(str(caught.value)) < 400


def test_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_state_dict(tmp_path / "none.pdparams")


def test_a_damaged_escape_sequence_is_no_warning(tmp_path):
    with pytest.raises(ArtifactError):  # of Python itself, and warnings are errors here
        read(tmp_path, b"S'\\o'\n.")
