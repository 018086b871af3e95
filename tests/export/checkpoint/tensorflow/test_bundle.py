"""TensorFlow's checkpoint files: what they may hold, and files that lie, which end in one line each."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from albert_export.checkpoint.stored_tensor import StoredTensor
from albert_export.checkpoint.tensorflow.crc32c import crc32c, unmask
from albert_export.checkpoint.tensorflow.snappy import unpack
from albert_export.checkpoint.weight_files import read_tensors, weight_files
from albert_export.errors import ExportError
from albert_export.protobuf import Malformed

from ...hostile import A, read, refused, survives_flips
from .writer import checksum, entry, field, header, literals, table, varint, write_tensorflow

BYTES = A.tobytes()
CRC = checksum(BYTES)


def test_checksums_of_rfc_3720():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"") == 0


@pytest.mark.parametrize("length", [16383, 16384, 20000, 100003])
def test_checksums_in_lanes_are_those_of_bytes_in_order(length):
    data = np.random.default_rng(length).bytes(length)
    assert crc32c(data) == unmask(checksum(data))


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("compress", [None, literals], ids=["stored", "snappy"])
def test_every_tensor_and_type(tmp_path, shards, compress):
    generator = np.random.default_rng(0)
    tensors = {f"bert/layer_{number}/kernel": generator.normal(size=(3, 4)) for number in range(50)}
    tensors |= {
        "f32": A,
        "f16": A.astype(np.float16),
        "i64": np.arange(4),
        "i32": np.arange(3, dtype=np.int32),
    }
    tensors |= {"bf16": np.array([0x3F80, 0xC000], np.uint16), "scalar": np.float32(7), "none": A[:0]}
    tensors["\u6a21\u578b"] = A
    index = write_tensorflow(tmp_path, tensors, shards=shards, dtypes={"bf16": "bfloat16"}, compress=compress)
    found = read(index)
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        wanted = [1, -2] if name == "bf16" else np.float32(value)
        np.testing.assert_array_equal(found[name], wanted)
        assert found[name].shape == value.shape


def test_what_is_no_array_of_numbers_is_known_by_name_only(tmp_path):
    index = one(tmp_path, entry(7, [2], 0, 0, 9, 0))  # texts
    assert not isinstance(read_tensors(weight_files(index))["a"], StoredTensor)


def test_a_variable_in_parts_is_refused(tmp_path):
    index = one(tmp_path, entry(1, [2, 3], 0, 0, 0, 0, field(7, b"")))
    refused(index, "holds a in parts, as a partitioner makes them; load the checkpoint in TensorFlow")


def one(folder: Path, value: bytes, *, head: bytes | None = None, name: bytes = b"a") -> Path:
    """A checkpoint of one entry over the bytes of ``A``."""
    (folder / "m.data-00000-of-00001").write_bytes(BYTES)
    index = folder / "m.index"
    index.write_bytes(table([(b"", header() if head is None else head), (name, value)]))
    return index


def test_one_entry(tmp_path):
    np.testing.assert_array_equal(read(one(tmp_path, entry(1, [2, 3], 0, 0, 24, CRC)))["a"], A)


NEGATIVE = (1 << 64) - 1
LYING_ENTRIES = {
    "larger shape": (entry(1, [2, 4], 0, 0, 24, CRC), "the size of a is not that of its shape"),
    "huge shape": (entry(1, [1 << 62, 1 << 62], 0, 0, 24, CRC), "the size of a is not that of its shape"),
    "beyond the end": (entry(1, [2, 3], 0, 4, 24, CRC), "a lies beyond the end of its data file"),
    "another shard": (entry(1, [2, 3], 1, 0, 24, CRC), "a lies beyond the end of its data file"),
    "negative offset": (entry(1, [2, 3], 0, NEGATIVE, 24, CRC), "no number from 0 on"),
    "negative size": (entry(1, [2, 3], 0, 0, NEGATIVE, CRC), "no number from 0 on"),
    "negative shape": (entry(1, [NEGATIVE, 3], 0, 0, 24, CRC), "no number from 0 on"),
    "many dimensions": (entry(1, [1] * 70 + [6], 0, 0, 24, CRC), "too many dimensions"),
    "another checksum": (entry(1, [2, 3], 0, 0, 24, CRC ^ 1), "the checksum of a is wrong; fetch"),
    "no message": (b"\xff" * 30, "no index of a TensorFlow checkpoint: it is cut short"),
    "shape of a type": (field(1, 1) + field(2, 5), "fields of another type"),
    "number of a type": (field(1, b"x"), "no number from 0 on"),
}


@pytest.mark.parametrize("case", LYING_ENTRIES)
def test_lying_entries(tmp_path, case):
    value, words = LYING_ENTRIES[case]
    refused(one(tmp_path, value), words)


GOOD = entry(1, [2, 3], 0, 0, 24, CRC)
LYING_HEADERS = {
    "big-endian": (header(endianness=1), "its tensors are big-endian"),
    "no shards": (header(0), "it names 0 data files"),
    "many shards": (header(1 << 30), "it names 1073741824 data files"),
    "empty": (b"", "it names 0 data files"),
}


@pytest.mark.parametrize("case", LYING_HEADERS)
def test_lying_headers(tmp_path, case):
    head, words = LYING_HEADERS[case]
    refused(one(tmp_path, GOOD, head=head), words)


def test_names_are_shown_on_one_line(tmp_path):
    name = b"a\x1b[2J\n" + b"x" * 10_000
    assert "\x1b" not in refused(one(tmp_path, entry(1, [2, 4], 0, 0, 24, CRC), name=name), "a[?]")
    refused(one(tmp_path, GOOD, name=b"\xff\xfe"), "a name is not UTF-8 text")


def test_a_shard_that_is_not_there(tmp_path):
    index = one(tmp_path, GOOD, head=header(2))
    with pytest.raises(ExportError, match=r"m.index needs m.data-00000-of-00002, which is not there; fetch"):
        read(index)


def test_lying_tables(tmp_path):
    index = one(tmp_path, GOOD)
    sound = index.read_bytes()
    for data, words in {
        b"": "does not end as an index does",
        b"x" * 60: "does not end as an index does",
        sound[:-1]: "does not end as an index does",
        b"x" + sound[1:]: "the checksum of a block is wrong",
        sound[:-48] + b"\xff" * 40 + sound[-8:]: "it is cut short",
        sound[:-48] + varint(1 << 60) * 4 + sound[-12:]: "a block lies beyond the end",
        table([(b"", header()), (b"b", GOOD), (b"a", GOOD)]): "its keys are not in order",
        table([(b"", header()), (b"a", GOOD), (b"a", GOOD)]): "its keys are not in order",
        table([(b"a", GOOD)]): "it has no header",
        table(
            [(b"", header()), (b"a", GOOD)], compress=lambda content: content
        ): "a compressed block|cut short",
        table(
            [(b"", header()), (b"a", GOOD)], compress=lambda content: varint(1 << 40)
        ): "far larger than blocks",
    }.items():
        index.write_bytes(data)
        refused(index, words)
    content = struct.pack("<BBB", 200, 1, 1) + bytes(8)  # an entry that shares 200 bytes with none
    index.write_bytes(table([(b"", header())], compress=lambda _: literals(content)))
    refused(index, "an entry is longer than its block")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=4), st.floats(0.5, 1))
def test_damaged_files(tmp_path_factory, flips, keep):
    folder = tmp_path_factory.mktemp("flips")
    index = write_tensorflow(folder, {f"a/{number}": A for number in range(8)})
    survives_flips(index, flips, keep)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.binary(max_size=40))
def test_lies_behind_right_checksums(tmp_path_factory, value, content):
    """An entry, and a block, of any bytes: readable, or refused in one line."""
    folder = tmp_path_factory.mktemp("lies")
    index = one(folder, value)
    survives_flips(index, [], 1)
    index.write_bytes(table([(b"", header())], compress=lambda _: literals(content)))
    survives_flips(index, [], 1)
    index.write_bytes(table([(b"", header())], compress=lambda _: content))
    survives_flips(index, [], 1)


# ---- Snappy


def test_what_snappy_itself_packed():
    """Packed by python-snappy 0.7.3 (cramjam 2.14): literals, copies with one and two bytes of offset."""
    text = b"".join(b"bert/encoder/transformer/group_0/inner_group_0/%d" % (n * n) for n in range(12)) * 3
    assert unpack(bytes.fromhex(SNAPPY)) == text


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_copies(kind):
    """abc, then the last three bytes twice over; the three forms of a reference."""
    length = {1: bytes([(6 - 4) << 2 | 1, 3]), 2: bytes([(6 - 1) << 2 | 2, 3, 0])}
    copy = length.get(kind, bytes([(6 - 1) << 2 | 3, 3, 0, 0, 0]))
    assert unpack(varint(9) + b"\x08abc" + copy) == b"abcabcabc"


def test_long_literals():
    text = bytes(range(256)) * 2
    assert unpack(varint(512) + bytes([61 << 2]) + struct.pack("<H", 511) + text) == text


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "cut short"),
        (varint(3) + b"\x08ab", "cut short"),
        (varint(9) + b"\x08abc", "shorter than it says"),
        (varint(2) + b"\x08abc", "longer than it says"),
        (varint(9) + b"\x08abc" + bytes([(6 - 1) << 2 | 2, 4, 0]), "before its start"),
        (varint(9) + b"\x08abc" + bytes([(6 - 1) << 2 | 2, 0, 0]), "before its start"),
        (varint(1 << 30), "far larger"),
    ],
)
def test_lying_snappy(data, words):
    with pytest.raises(Malformed, match=words):
        unpack(data)


SNAPPY = (
    "de0d98626572742f656e636f6465722f7472616e73666f726d65722f67726f75705f302f696e6e65725f110e0030ba30"
    "000031ba30000034ba30000039ba3000043136ba3100043235ba31000033be62000034bec4000036be25010038be8601"
    "043130c2e8010032be6400c26200ba8801be2501be8601fe4a02fe4a02fe4a02fe4a02fe4a02fe4a02fe4a02fe4a02fe"
    "4a02fe4a02fe4a02fe4a02fe4a02fe4a02924a02"
)
