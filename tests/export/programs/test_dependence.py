"""Which arrays of a program depend on which inputs."""

import numpy as np
import pytest

from albert_export.programs.dependence import Dependence
from albert_export.programs.graph import Graph, Input, Node
from albert_export.programs.interpreter import interpret

INPUTS = tuple(Input(name, (None, None), "int64") for name in ("ids", "mask"))
FEEDS = {"ids": np.array([[1, 0, 0]]), "mask": np.array([[1, 1, 0]])}


def dependence(*nodes, **constants):
    """Of a graph of nodes (op, inputs, output, attributes)."""
    made = tuple(
        Node(op, tuple(inputs.split()), (output,), *attributes, name=output)
        for op, inputs, output, *attributes in nodes
    )
    arrays = {name: np.asarray(values) for name, values in constants.items()}
    _, found = interpret(Graph(INPUTS, ((made[-1].name, made[-1].name),), made, arrays, ()), FEEDS)
    return found


def test_an_input_depends_on_itself():
    found = Dependence(Graph(INPUTS, (), (), {}, ()))
    assert found.inputs == {"ids": {"ids"}, "mask": {"mask"}} and found.taken == []
    assert found.is_input("ids", "ids") and not found.is_input("ids", "mask")


def test_what_is_computed_of_inputs_depends_on_all_of_them():
    found = dependence(("Add", "ids one", "more"), ("Mul", "more mask", "both"), one=1)
    assert found.inputs["more"] == {"ids"} and found.inputs["both"] == {"ids", "mask"}
    assert not found.is_input("more", "ids") and not found.is_input("both", "ids")


@pytest.mark.parametrize("op", ["Shape", "Size"])
def test_sizes_do_not_depend_on_numbers(op):
    found = dependence((op, "ids", "sizes"), ("Add", "sizes one", "more"), one=[1])
    assert found.inputs == {"ids": {"ids"}, "mask": {"mask"}}


def test_an_input_in_another_form_is_the_input():
    nodes = (
        ("Cast", "ids", "a", {"dtype": "int32"}),
        ("Unsqueeze", "a axes", "b"),
        ("Reshape", "b shape", "c"),
        ("Identity", "c", "d"),
    )
    found = dependence(*nodes, axes=[1], shape=[1, 3])
    assert all(found.is_input(name, "ids") and not found.is_input(name, "mask") for name in "abcd")


def test_what_was_computed_stays_so_in_another_form():
    found = dependence(("Add", "ids one", "a"), ("Identity", "a", "b"), one=1)
    assert found.inputs["b"] == {"ids"} and not found.is_input("b", "ids")


def test_an_input_in_the_shape_of_another_is_not_that_one():
    found = dependence(("Shape", "mask", "sizes"), ("Reshape", "ids sizes", "a"))
    assert found.is_input("a", "ids") and found.inputs["a"] == {"ids"}


def test_an_input_in_a_shape_made_of_numbers_is_not_the_input():
    nodes = ("Max", "mask sizes", "a"), ("Squeeze", "a", "b"), ("Expand", "ids b", "c")
    found = dependence(*nodes, sizes=[[1, 1, 3]])
    assert found.inputs["c"] == {"ids", "mask"} and not found.is_input("c", "ids")


def test_numbers_beside_an_input():
    """Whole ones of small constants: a table, say, has no words to try."""
    found = dependence(
        ("Equal", "ids three", "a"),
        ("Mul", "mask five", "b"),
        ("Add", "ids few", "c"),
        ("Mul", "ids many", "d"),
        ("And", "a yes", "e"),
        three=3,
        five=5,
        few=[[2.5, 7.0, 3.0]],
        many=np.full((3, 3), 20),
        yes=True,
    )
    assert found.numbers_beside("ids") == [3, 7] and found.numbers_beside("mask") == [5]


def test_where_expressions_take_arrays():
    """A lookup of embeddings is an expression; what it looks up is noted with it."""
    table = np.linspace(0, 1, 8, dtype=np.float32).reshape(4, 2)
    found = dependence(("Gather", "table ids", "words"), table=table)
    (taken,) = found.taken
    assert (taken.node.name, taken.name) == ("words", "ids") and "words" not in found.inputs
    assert taken.made.table.shape == (4, 2)
