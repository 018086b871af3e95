"""ONNX files whose nodes and functions no exporter writes: refused in one line, quickly."""

import itertools

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from albert_export.programs.albert import take_albert
from albert_export.programs.program_file import read_program
from albert_runtime.errors import AlbertError

from .lying_onnx import TABLE, ids_input, refused, written


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
    ids = ids_input(TensorProto.INT64, 1, 1 << 16)
    weight = numpy_helper.from_array(np.ones((2, 2), np.float32), "weight")
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"]),
        helper.make_node("MatMul", ["x", "weight"], ["q"]),
        helper.make_node("Transpose", ["q"], ["k"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "k"], ["out"]),
    ]
    refused(written(tmp_path, *nodes, inputs=[ids], constants=[TABLE, weight]), "is too large")
