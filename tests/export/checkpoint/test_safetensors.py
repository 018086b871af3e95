"""Safetensors files and indexes of shards that lie: every one ends in one line."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from albert_export.errors import ExportError

from ..hostile import A, read, refused, survives_flips

BYTES = A.tobytes()
ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


def safetensors(tmp_path, header, data=BYTES):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_safetensors(tmp_path):
    result = read(safetensors(tmp_path, {"__metadata__": {"format": "pt"}, "a": ENTRY}))
    np.testing.assert_array_equal(result["a"], A)
    assert read(safetensors(tmp_path, {}, b"")) == {}


SECOND = {"dtype": "F32", "shape": [2, 3], "data_offsets": [24, 48]}
LYING_HEADERS = {
    "not json": (b"{", "header is not JSON"),
    "not text": (b"\xff\xfe", "header is not JSON"),
    "deep": (b"[" * 100_000, "header is not JSON"),
    "list": (b"[]", "no JSON object"),
    "twice": (b'{"a": %s, "a": %s}' % ((json.dumps(ENTRY).encode(),) * 2), "a name twice"),
    "no offsets": ({"a": {"dtype": "F32", "shape": [2, 3]}}, "not a type, a shape and two offsets"),
    "null": ({"a": None}, "not a type, a shape and two offsets"),
    "odd type": ({"a": {**ENTRY, "dtype": "F8_E5M2"}}, "data type F8_E5M2"),
    "negative": ({"a": {**ENTRY, "shape": [-2, -3]}}, "not a few whole numbers"),
    "fraction": ({"a": {**ENTRY, "shape": [2, 3.0]}}, "not a few whole numbers"),
    "boolean": ({"a": {**ENTRY, "shape": [6, True]}}, "not a few whole numbers"),
    "many dimensions": ({"a": {**ENTRY, "shape": [1] * 70 + [6]}}, "not a few whole numbers"),
    "larger shape": ({"a": {**ENTRY, "shape": [2, 4]}}, "offsets of a do not fit its shape"),
    "huge shape": ({"a": {**ENTRY, "shape": [1 << 62, 1 << 62]}}, "do not fit its shape"),
    "reversed": ({"a": {**ENTRY, "data_offsets": [24, 0]}}, "do not fit its shape"),
    "beyond the end": ({"a": ENTRY, "b": SECOND}, "take 48 bytes, the file holds 24"),
    "overlap": ({"a": ENTRY, "b": {**ENTRY, "data_offsets": [4, 28]}}, "overlap or leave bytes"),
    "alias": ({"a": ENTRY, "b": ENTRY}, "overlap or leave bytes"),
    "hole": ({"a": {**ENTRY, "data_offsets": [4, 28]}}, "overlap or leave bytes"),
    "hidden bytes": ({}, "take 0 bytes, the file holds 24"),
    "escape": ({"a\x1b[2J\n" + "x" * 10_000: None}, "not a type, a shape"),
}


@pytest.mark.parametrize("case", LYING_HEADERS)
def test_lying_safetensors(tmp_path, case):
    header, words = LYING_HEADERS[case]
    assert refused(safetensors(tmp_path, header), words).isprintable()


@pytest.mark.parametrize("length", [0, 7, 8, 9, 80])
def test_short_safetensors(tmp_path, length):
    path = safetensors(tmp_path, {"a": ENTRY})
    path.write_bytes(path.read_bytes()[:length])
    refused(path, "truncated or no safetensors file")


@pytest.mark.parametrize("length", [1 << 20, 1 << 40, (1 << 64) - 1])
def test_a_header_longer_than_the_file(tmp_path, length):
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}")
    refused(path, "header is longer than the file")


def test_what_the_safetensors_package_refuses(tmp_path):
    package = pytest.importorskip("safetensors")
    for header, _ in LYING_HEADERS.values():
        path = safetensors(tmp_path, header)
        try:
            with package.safe_open(path, "numpy") as file:
                accepted = list(file.keys())
        except package.SafetensorError:
            continue
        # What it accepts and we refuse: a name twice, a type that no ALBERT has, seventy dimensions.
        assert accepted == ["a"]


@settings(max_examples=300, deadline=None)
@given(
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4),
    keep=st.floats(0.5, 1.0),
)
def test_flipped_bytes_never_escape(tmp_path_factory, flips, keep):
    path = safetensors(tmp_path_factory.getbasetemp(), {"a": ENTRY})
    survives_flips(path, flips, keep)


def index(tmp_path, value, name="model.safetensors.index.json"):
    path = tmp_path / name
    path.write_text(json.dumps(value) if not isinstance(value, str) else value)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "../secret.safetensors",
        "/etc/x.safetensors",
        "a/b.safetensors",
        "..",
        "",
        ".safetensors/..",
        "a\\b.safetensors",
        "a\0.safetensors",
        "a\n.safetensors",
        "pytorch_model.bin",
        "x" * 5000,
    ],
)
def test_indexes_that_reach_elsewhere(tmp_path, name):
    (tmp_path.parent / "secret.safetensors").touch()
    refused(index(tmp_path, {"weight_map": {"a": name}}), "no plain name of a .safetensors file")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{", "not readable as JSON"),
        ("[" * 100_000, "not readable as JSON"),
        ([], "no weight_map"),
        ({"weight_map": {}}, "no weight_map"),
        ({"weight_map": {"a": 3}}, "no weight_map"),
        ({"weight_map": {str(i): f"{i}.safetensors" for i in range(5)}}, "which is not there"),
        (" " * (1 << 25), "far larger than an index"),
    ],
)
def test_indexes_that_are_none(tmp_path, value, words):
    refused(index(tmp_path, value), words)


def test_shards(tmp_path):
    safetensors(tmp_path, {"a": ENTRY}).rename(tmp_path / "1.safetensors")
    path = index(tmp_path, {"weight_map": {"a": "1.safetensors"}})
    np.testing.assert_array_equal(read(path)["a"], A)


def test_other_files(tmp_path):
    path = tmp_path / "model.npz"
    path.touch()
    with pytest.raises(ExportError, match=r"is no \.pdparams, \.safetensors, \.bin, "):
        read(path)
