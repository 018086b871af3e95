"""The tensor table of a weight file."""

import struct

import numpy as np
import pytest

from albert_export.paddle_model.pdiparams import map_tensors, read_tensor_ranges
from albert_runtime.errors import ArtifactError

SHAPES = {"b.weight": (300, 2), "a.bias": (5,), "a.weight": (2, 5)}
TYPES = dict.fromkeys(SHAPES, "float32")


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def record(values, code=5, version=0, levels=0):
    description = b"\x08" + varint(code) + b"".join(b"\x10" + varint(size) for size in values.shape)
    return struct.pack("<IQIi", version, levels, 0, len(description)) + description + values.tobytes()


def tensors():
    generator = np.random.default_rng(0)
    return {name: generator.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def write(tmp_path, *parts):
    path = tmp_path / "m.pdiparams"
    path.write_bytes(b"".join(parts))
    return path


def test_ranges_in_sorted_order(tmp_path):
    values = tensors()
    path = write(tmp_path, *(record(values[name]) for name in sorted(SHAPES)))
    ranges = read_tensor_ranges(path, SHAPES, TYPES)
    assert [tensor.name for tensor in ranges] == ["a.bias", "a.weight", "b.weight"]
    data = path.read_bytes()
    for tensor in ranges:
        assert (tensor.shape, tensor.dtype) == (SHAPES[tensor.name], "float32")
        assert data[tensor.offset : tensor.offset + tensor.length] == values[tensor.name].tobytes()
    assert ranges[-1].offset + ranges[-1].length == len(data)


def test_every_truncation_is_named(tmp_path):
    values = tensors()
    data = b"".join(record(values[name]) for name in sorted(SHAPES))
    for length in range(len(data)):
        with pytest.raises(ArtifactError, match="tensor"):
            read_tensor_ranges(write(tmp_path, data[:length]), SHAPES, TYPES)


def test_spare_bytes_and_tensors(tmp_path):
    values = tensors()
    good = [record(values[name]) for name in sorted(SHAPES)]
    with pytest.raises(ArtifactError, match="1 bytes more"):
        read_tensor_ranges(write(tmp_path, *good, b"x"), SHAPES, TYPES)
    with pytest.raises(ArtifactError, match="more than its 3 tensors"):
        read_tensor_ranges(write(tmp_path, *good, good[0]), SHAPES, TYPES)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (record(np.zeros(6, np.float32)), r"a\.bias has shape \[6\], not \[5\]"),
        (record(np.zeros(5, np.float16), code=4), r"a\.bias is float16, not float32"),
        (record(np.zeros(5, np.int32), code=2), r"a\.bias is int32, not float32"),
        (record(np.zeros(5, np.int64), code=32), r"a\.bias is of an unknown type \(32\)"),
        (record(np.zeros(5, np.float32), version=1), "not in the known form"),
        (record(np.zeros(5, np.float32), levels=1), "not in the known form"),
        (struct.pack("<IQIi", 0, 0, 0, -1), "not in the known form"),
        (struct.pack("<IQIi", 0, 0, 0, 2**30), "not in the known form"),
        (struct.pack("<IQIi", 0, 0, 0, 4) + b"\x08\x05\x18\x05" + bytes(20), "not in the known form"),
    ],
)
def test_bad_records_are_named(tmp_path, bad, words):
    with pytest.raises(ArtifactError, match=words):
        read_tensor_ranges(write(tmp_path, bad), SHAPES, TYPES)


def test_tensors_are_mapped(tmp_path):
    generator = np.random.default_rng(1)
    bits = generator.integers(0, 2**15, 7, np.uint16)
    values = {
        "a": generator.normal(size=(3, 5)).astype(np.float32),
        "b": np.array([True, False, True]),
        "c": generator.integers(-(2**60), 2**60, (2, 2)),
        "d": generator.normal(size=4).astype(np.float16),
        "e": bits,
    }
    codes = dict(zip(values, (5, 0, 3, 4, 22), strict=True))
    path = write(tmp_path, *(record(value, code=codes[name]) for name, value in values.items()))
    types = {name: str(value.dtype) for name, value in values.items()} | {"e": "bfloat16"}
    ranges = read_tensor_ranges(path, {name: value.shape for name, value in values.items()}, types)
    mapped = map_tensors(path, ranges)
    for name in "abcd":
        assert mapped[name].dtype == values[name].dtype
        np.testing.assert_array_equal(mapped[name], values[name])
        assert isinstance(mapped[name].base.base, np.memmap) or isinstance(mapped[name].base, np.memmap)
        assert not mapped[name].flags.writeable
    assert mapped["e"].dtype == np.float32
    np.testing.assert_array_equal(mapped["e"].view(np.uint32) >> 16, bits)
