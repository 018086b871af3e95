"""ONNX files that lie: refused in one line, quickly, and with little memory."""

import itertools
import struct
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from albert_export.programs.albert import take_albert
from albert_export.programs.program_file import read_program
from albert_runtime.errors import AlbertError

ROWS = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "sequence"])
OUT = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
TABLE = numpy_helper.from_array(np.ones((4, 2), np.float32), "table")
LOOKUP = helper.make_node("Gather", ["table", "ids"], ["out"])
SECONDS = 5


def written(tmp_path, *nodes, inputs=(ROWS,), outputs=(OUT,), constants=(TABLE,), functions=()):
    """The path of a model; protobuf's own checks alone are passed."""
    graph = helper.make_graph([*(nodes or (LOOKUP,))], "graph", [*inputs], [*outputs], [*constants])
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    model = helper.make_model(graph, opset_imports=imports, functions=[*functions])
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def refused(path, words="."):
    began = time.process_time()
    with pytest.raises(AlbertError, match=words) as caught:
        take_albert(read_program(path), None)
    assert time.process_time() - began < SECONDS
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600 + len(str(path))


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


def value(kind, *dims):
    return helper.make_tensor_value_info("ids", kind, dims)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (value(TensorProto.STRING, None, None), "ids is of type STRING"),
        (value(TensorProto.UNDEFINED, None, None), "ids is of type UNDEFINED"),
        (value(TensorProto.INT64, -3, 5), r"its inputs have the shape \[-3, 5\]"),
        (value(TensorProto.INT64, 1 << 40, 1 << 40), "which is no batch of word ids"),
        (value(TensorProto.INT64, 1 << 16, 1), "no output depends on its words through a layer"),
        (value(TensorProto.INT64, 4), r"its inputs are ids \[4\]"),
        (value(TensorProto.INT64), r"its inputs are ids \[\]"),
        (onnx.ValueInfoProto(name="ids"), "ids is of type UNDEFINED"),
        (
            helper.make_tensor_sequence_value_info("ids", TensorProto.INT64, None),
            "ids is of type UNDEFINED",
        ),
    ],
)
def test_inputs_that_are_no_word_ids(tmp_path, given, words):
    refused(written(tmp_path, inputs=[given]), words)


# ---- Nodes


def branch(*nodes, output="x"):
    return helper.make_graph([*nodes], "branch", [], [onnx.ValueInfoProto(name=output)])


def deep(levels):
    """Graphs within graphs."""
    inner = branch(helper.make_node("Identity", ["ids"], ["x"]))
    for _ in range(levels):
        inner = branch(helper.make_node("If", ["ids"], ["x"], then_branch=inner, else_branch=inner))
    return helper.make_node("If", ["ids"], ["out"], then_branch=inner, else_branch=inner)


def with_attribute(op, inputs, **fields):
    node = helper.make_node(op, inputs, ["out"])
    node.attribute.add(**fields)
    return node


NODES = {
    "no branch": (helper.make_node("If", ["ids"], ["out"]), "lacks a branch"),
    "one branch": (helper.make_node("If", ["ids"], ["out"], then_branch=branch()), "lacks a branch"),
    "too few outputs": (
        helper.make_node("If", ["ids"], ["out", "b"], then_branch=branch(), else_branch=branch()),
        "lacks a branch, or outputs of it",
    ),
    "outputs without a name": (
        helper.make_node(
            "If", ["one"], ["out"], then_branch=branch(output=""), else_branch=branch(output="")
        ),
        "a branch gives nothing",
    ),
    "a condition of words": (
        helper.make_node(
            "If",
            ["ids"],
            ["out"],
            then_branch=branch(helper.make_node("Gather", ["table", "ids"], ["x"])),
            else_branch=branch(helper.make_node("Gather", ["table", "ids"], ["x"])),
        ),
        "its condition depends on words",
    ),
    "eight deep": (deep(12), "more than 8 deep"),
    "no condition": (helper.make_node("If", [], ["out"]), "this operator is none of an ALBERT's"),
    "a loop": (helper.make_node("Loop", ["ids"], ["out"], body=branch()), "none of an ALBERT's"),
    "itself": (helper.make_node("Add", ["out", "out"], ["out"]), "out is nowhere computed"),
    "what is nowhere": (helper.make_node("Add", ["table", "lost"], ["out"]), "lost is nowhere computed"),
    "no inputs": (helper.make_node("Add", [], ["out"]), "do not fit it"),
    "inputs left out": (helper.make_node("Add", ["", "table"], ["out"]), "do not fit it"),
    "no outputs": (helper.make_node("Gelu", ["table"], [], domain="com.microsoft"), "out is nowhere"),
    "an attribute without type": (with_attribute("Relu", ["table"], name="x"), "no output depends"),
    "a reference": (
        with_attribute("Softmax", ["table"], name="axis", ref_attr_name="x", type=1),
        "do not fit it",
    ),
    "an axis in words": (helper.make_node("Softmax", ["table"], ["out"], axis="last"), "do not fit it"),
    "a type that is a list": (helper.make_node("Cast", ["table"], ["out"], to=[1.5]), "do not fit it"),
    "a type that is none": (helper.make_node("Cast", ["table"], ["out"], to=99), "do not fit it"),
    "a constant of words": (
        helper.make_node("Constant", [], ["out"], value_string="x"),
        "none of an ALBERT's",
    ),
}


@pytest.mark.parametrize("name", NODES)
def test_nodes_that_no_program_has(tmp_path, name):
    node, words = NODES[name]
    one = numpy_helper.from_array(np.array([True]), "one")
    refused(written(tmp_path, node, constants=[TABLE, one]), words)


@pytest.mark.parametrize(
    ("op", "attributes", "words"),
    [
        ("LayerNormalization", {"epsilon": "small"}, "its epsilon is no number"),
        ("LayerNormalization", {"axis": "last"}, "over other axes"),
        ("Gemm", {"alpha": "1"}, "its alpha is no number"),
        ("Gemm", {"beta": [1.0, 2.0]}, "its beta is no number"),
        ("Add", {}, "an input of it is left out"),
        ("Softmax", {}, "do not fit it"),
        ("Transpose", {"perm": [0, 0, 7]}, "do not fit it"),
        ("Reshape", {}, "do not fit it"),
        ("Concat", {"axis": 99}, ""),
        ("Einsum", {"equation": "ij,jk"}, "einsum"),
        ("Einsum", {"equation": "b,b->b"}, ""),
        ("ReduceMean", {"keepdims": "x"}, ""),
        ("Where", {}, ""),
        ("MatMul", {}, ""),
        ("com.microsoft.FusedMatMul", {"alpha": "x", "to": "there", "op": 1}, ""),
        ("com.microsoft.FusedGemm", {"activation": [1], "to": "x"}, ""),
        ("com.microsoft.Attention", {"num_heads": "two"}, ""),
        ("com.microsoft.Attention", {"num_heads": -1}, ""),
        ("com.microsoft.Attention", {"num_heads": 0.5}, ""),
        ("com.microsoft.MultiHeadAttention", {"num_heads": 1 << 60}, ""),
        ("com.microsoft.SkipLayerNormalization", {"epsilon": "x"}, ""),
        ("com.microsoft.EmbedLayerNormalization", {"epsilon": [1]}, ""),
        ("Attention", {"q_num_heads": "x", "scale": "y"}, ""),
    ],
)
@pytest.mark.parametrize(
    "inputs", [["states"], ["", "states"], ["states"] * 3, ["states", "table", "states", "", "states"] * 3]
)
def test_hidden_states_in_nodes_with_other_attributes(tmp_path, op, attributes, words, inputs):
    """No file makes anything but an AlbertError, whatever its nodes' attributes and number of inputs."""
    domain, _, kind = op.rpartition(".")
    node = helper.make_node(kind, inputs, ["out", "more"], domain=domain, **attributes)
    path = written(tmp_path, helper.make_node("Gather", ["table", "ids"], ["states"]), node)
    with pytest.raises(AlbertError):
        take_albert(read_program(path), None)


def chain(op, length, inputs):
    """Nodes one after another on looked up rows; each reads the last ``inputs`` times."""
    names = ["x0", *(f"x{number}" for number in range(1, length)), "out"]
    nodes = [helper.make_node("Gather", ["table", "ids"], ["x0"])]
    steps = itertools.pairwise(names)
    return [*nodes, *(helper.make_node(op, [before] * inputs, [after]) for before, after in steps)]


@pytest.mark.parametrize(
    ("op", "length", "inputs"), [("Mul", 60, 2), ("Tanh", 3000, 1), ("Add", 60, 2), ("Max", 40, 3)]
)
def test_functions_of_more_steps_than_activations_have(tmp_path, op, length, inputs):
    refused(written(tmp_path, *chain(op, length, inputs)), "does not fit: ")


def doubling(levels, last=None):
    """Functions that call the next one twice, the last one ``last``."""
    functions = []
    for level in range(levels):
        called = f"f{level + 1}" if level < levels - 1 else last
        nodes = [
            helper.make_node(called, ["x"], ["y"], domain="own")
            if called
            else helper.make_node("Neg", ["x"], ["y"]),
            helper.make_node(called, ["y"], ["z"], domain="own")
            if called
            else helper.make_node("Neg", ["y"], ["z"]),
        ]
        functions.append(
            helper.make_function("own", f"f{level}", ["x"], ["z"], nodes, [helper.make_opsetid("", 20)])
        )
    return functions


def test_functions_that_multiply(tmp_path):
    call = helper.make_node("f0", ["table"], ["out"], domain="own")
    refused(written(tmp_path, call, functions=doubling(40)), "its functions make more than 262144 nodes")


def test_functions_that_call_themselves(tmp_path):
    call = helper.make_node("f0", ["table"], ["out"], domain="own")
    refused(written(tmp_path, call, functions=doubling(1, "f0")), "'f0' calls itself")
    refused(written(tmp_path, call, functions=doubling(3, "f1")), "calls itself")


def test_functions_are_put_in_the_place_of_their_calls(tmp_path):
    call = helper.make_node("f0", ["table"], ["out"], domain="own")
    graph = read_program(written(tmp_path, call, functions=doubling(2)))
    assert [node.op for node in graph.nodes] == ["Neg"] * 4


def test_results_beyond_all_bounds(tmp_path):
    """Rows of tokens whose attention would take terabytes are refused before any of it is made."""
    ids = value(TensorProto.INT64, 1, 1 << 16)
    weight = numpy_helper.from_array(np.ones((2, 2), np.float32), "weight")
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"]),
        helper.make_node("MatMul", ["x", "weight"], ["q"]),
        helper.make_node("Transpose", ["q"], ["k"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "k"], ["out"]),
    ]
    refused(written(tmp_path, *nodes, inputs=[ids], constants=[TABLE, weight]), "is too large")


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
