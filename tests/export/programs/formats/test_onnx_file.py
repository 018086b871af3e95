"""ONNX files that lie about their tensors and inputs: refused in one line, with little memory."""

import struct
import subprocess
import sys

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from albert_export.programs.albert import take_albert
from albert_export.programs.program_file import read_program
from albert_runtime.errors import AlbertError

from .lying_onnx import ids_input, refused, written

# ---- Damaged files


def test_every_truncation(stored_program, tmp_path):
    """Cut at places all over the file, it is refused, or lacks what an ALBERT has."""
    data = (stored_program("torch-script/model-one-layer") / "model.onnx").read_bytes()
    path = tmp_path / "model.onnx"
    for length in [*range(40), *range(40, len(data), 997), len(data) - 1]:
        path.write_bytes(data[:length])
        refused(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(0, 60_000), st.integers(0, 255)), min_size=1, max_size=6))
def test_any_bytes_replaced(stored_program, tmp_path, flips):
    data = bytearray((stored_program("torch-script/model-one-layer") / "model.onnx").read_bytes())
    for place, value in flips:
        data[place % len(data)] = value
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    try:
        take_albert(read_program(path), None)
    except AlbertError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    "text", [b"", b"<!DOCTYPE html><html>", b"version https://git-lfs.github.com/spec/v1"]
)
def test_files_that_are_no_onnx(tmp_path, text):
    path = tmp_path / "model.onnx"
    path.write_bytes(text)
    refused(path, "is no ONNX file|its inputs are none")


# ---- Tensors


def tensor(dims, kind=TensorProto.FLOAT, **values):
    return TensorProto(name="table", dims=dims, data_type=kind, **values)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (tensor([1 << 40]), "table does not fit its shape"),
        (tensor([1 << 62, 1 << 62], raw_data=b"1234"), "table does not fit its shape"),
        (tensor([-1, -2], raw_data=b"12345678"), "table does not fit its shape"),
        (tensor([4, 2], raw_data=b"123"), "table does not fit its shape"),
        (tensor([4, 2], float_data=[1.0]), "table does not fit its shape"),
        (tensor([1], TensorProto.FLOAT16, int32_data=[1 << 30]), "table does not fit its shape"),
        (tensor([1], TensorProto.BFLOAT16, int32_data=[-5]), "table does not fit its shape"),
        (tensor([1], TensorProto.STRING, string_data=[b"x"]), "table is of type STRING, which no ALBERT has"),
        (tensor([1], TensorProto.FLOAT8E4M3FN, raw_data=b"1"), "table is of type FLOAT8E4M3FN"),
        (tensor([1], TensorProto.UNDEFINED), "table is of type UNDEFINED"),
        (tensor([1], 99), "table is of type 99"),
    ],
)
def test_tensors_that_do_not_fit(tmp_path, made, words):
    refused(written(tmp_path, constants=[made]), words)


def external(dims=(4, 2), **entries):
    made = tensor(dims, data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        made.external_data.add(key=key, value=value)
    return made


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (external(location="../weights"), "'../weights', outside its folder"),
        (external(location="sub/../../weights"), "outside its folder"),
        (external(location="/etc/passwd"), "'/etc/passwd', outside its folder"),
        (external(location=""), "outside its folder"),
        (external(), "outside its folder"),
        (external(location="nowhere"), "the data of table are missing: .*nowhere"),
        (external(location="."), "the data of table are missing"),
        (external(location="a" * 5000), "the data of table are missing"),
        (external(location="data", offset="-4"), "table lies beyond the end of data"),
        (external(location="data", offset="4"), "table lies beyond the end of data"),
        (external(location="data", offset="1" + "0" * 40), "table lies beyond the end of data"),
        (external(location="data", offset="first"), "table does not fit its shape"),
        (external((1 << 60, 1 << 60), location="data"), "table lies beyond the end of data"),
        (external((-4, -2), location="data"), "table lies beyond the end of data"),
        (external((1 << 62, 0), location="data"), "does not fit"),
    ],
)
def test_external_data_that_are_not_there(tmp_path, made, words):
    (tmp_path / "data").write_bytes(bytes(32))
    refused(written(tmp_path, constants=[made]), words)


def test_external_data_in_a_folder_below(tmp_path):
    (tmp_path / "below").mkdir()
    values = np.arange(8, dtype=np.float32)
    (tmp_path / "below" / "data").write_bytes(b"odd" + values.tobytes())
    graph = read_program(written(tmp_path, constants=[external(location="below/data", offset="3")]))
    np.testing.assert_array_equal(graph.constants["table"], values.reshape(4, 2))
    assert graph.files == (tmp_path / "model.onnx", tmp_path / "below" / "data")


def test_bfloat16_is_widened(tmp_path):
    made = tensor([2], TensorProto.BFLOAT16, raw_data=struct.pack("<2H", 0x3F80, 0xC049))
    graph = read_program(written(tmp_path, constants=[made]))
    np.testing.assert_array_equal(graph.constants["table"], np.array([1.0, -3.140625], np.float32))


# ---- Inputs


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (ids_input(TensorProto.STRING, None, None), "ids is of type STRING"),
        (ids_input(TensorProto.UNDEFINED, None, None), "ids is of type UNDEFINED"),
        (ids_input(TensorProto.INT64, -3, 5), r"its inputs have the shape \[-3, 5\]"),
        (ids_input(TensorProto.INT64, 1 << 40, 1 << 40), "which is no batch of word ids"),
        (ids_input(TensorProto.INT64, 1 << 16, 1), "none is one of ALBERT's heads: out is word embeddings"),
        (ids_input(TensorProto.INT64, 4), r"its inputs are ids \[4\]"),
        (ids_input(TensorProto.INT64), r"its inputs are ids \[\]"),
        (onnx.ValueInfoProto(name="ids"), "ids is of type UNDEFINED"),
        (
            helper.make_tensor_sequence_value_info("ids", TensorProto.INT64, None),
            "ids is of type UNDEFINED",
        ),
    ],
)
def test_inputs_that_are_no_word_ids(tmp_path, given, words):
    refused(written(tmp_path, inputs=[given]), words)


# ---- Memory

_READ = """
import resource, sys
from pathlib import Path
from albert_export.programs.albert import take_albert
from albert_export.programs.program_file import read_program

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

import onnx
before = peak()
graph = read_program(Path(sys.argv[1]))
assert graph.constants["table"].nbytes == 200_000_000
print(peak() - before)
"""


def test_external_weights_are_mapped(tmp_path):
    """A file of 200 MB is not copied into memory."""
    with (tmp_path / "data").open("wb") as file:
        file.truncate(200_000_000)
    path = written(tmp_path, constants=[external((50_000, 1000), location="data")])
    done = subprocess.run(
        [sys.executable, "-c", _READ, str(path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) * 1024 < 40_000_000
