"""Which arrays of a program depend on which inputs."""

import numpy as np
import pytest

from albert_export.programs.dependence import Dependence
from albert_export.programs.graph import Graph, Input, Node
from albert_export.programs.interpreter import interpret

INPUTS = tuple(Input(name, (None, None), "int64") for name in ("ids", "mask"))
FEEDS = {"ids": np.array([[1, 0, 0]]), "mask": np.array([[1, 1, 0]])}


def dependence(*nodes, **constants):
    """Of a graph of nodes (op, inputs, output)."""
    made = tuple(Node(op, tuple(inputs.split()), (output,), name=output) for op, inputs, output in nodes)
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
    found = dependence(
        (op, "ids", "sizes"), ("Mul", "sizes mask" if op == "Size" else "sizes one", "y"), one=1
    )
    assert "sizes" not in found.inputs
    assert found.inputs.get("y") == ({"mask"} if op == "Size" else None)


def test_an_input_in_another_form_is_the_input():
    nodes = [("Identity", "ids", "a"), ("Unsqueeze", "a axes", "b"), ("Reshape", "b shape", "c")]
    found = dependence(*nodes, axes=[1], shape=[1, 3])
    assert all(found.is_input(name, "ids") and not found.is_input(name, "mask") for name in "abc")
    assert dependence(("Cast", "ids", "a"), ("Add", "a one", "b"), ("Identity", "b", "c"), one=1).taken == []


def test_what_was_computed_stays_so_in_another_form():
    found = dependence(("Add", "ids one", "a"), ("Identity", "a", "b"), one=1)
    assert found.inputs["b"] == {"ids"} and not found.is_input("b", "ids")


def test_an_input_in_the_shape_of_another_is_not_that_one():
    found = dependence(("Shape", "mask", "sizes"), ("Reshape", "ids sizes", "a"))
    assert found.is_input("a", "ids") and found.inputs["a"] == {"ids"}


def test_an_input_that_numbers_decide_the_shape_of_is_not_the_input():
    found = dependence(("Reshape", "ids mask", "a"))
    assert not found.is_input("a", "ids")


def test_numbers_beside_an_input():
    constants = {"three": 3, "halves": [2.5, 7.0], "many": np.arange(9) + 20, "other": 5, "on": True}
    found = dependence(
        ("Equal", "ids three", "a"),
        ("Mul", "mask other", "b"),
        ("Mul", "ids many2", "c"),
        ("And", "a on", "d"),
        ("Add", "ids pair", "e"),
        **constants,
        many2=np.full((3, 3), 20),
        pair=[[2.5, 7.0, 3.0]],
    )
    assert found.numbers_beside("ids") == [3, 7] and found.numbers_beside("mask") == [5]


def test_where_expressions_take_arrays():
    """A lookup of embeddings is an expression; what it looks up is noted with it."""
    table = np.linspace(0, 1, 8, dtype=np.float32).reshape(4, 2)
    found = dependence(("Gather", "table ids", "words"), table=table)
    (taken,) = found.taken
    assert (taken.node.name, taken.name) == ("words", "ids") and "words" not in found.inputs
    assert taken.made.table.shape == (4, 2)
