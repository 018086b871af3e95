"""Programs in Paddle's .json: what is read, and what is refused."""

import copy
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from albert_export.programs.formats.pir_file import read_pir
from albert_runtime.errors import AlbertError

from .evaluate import evaluate


def tensor(number, shape=(-1, 4), dtype="0.t_f32"):
    return {"%": number, "TT": {"#": "0.t_dtensor", "D": [{"#": dtype}, list(shape), "NCHW", [], 0]}}


def attribute(name, kind, value):
    return {"N": name, "AT": {"#": kind, "D": value}}


def op(kind, inputs, outputs, *attributes):
    return {"#": kind, "I": [{"%": number} for number in inputs], "O": outputs, "A": list(attributes)}


def data(number, name="x", **kind):
    return op("1.data", [], [tensor(number, **kind)], attribute("name", "0.a_str", name))


def fetch(number, name="out", place=0):
    return op(
        "1.fetch",
        [number],
        [tensor(900 + place)],
        attribute("name", "0.a_str", name),
        attribute("col", "0.a_i32", place),
    )


def weight(number, name, shape=(4,), **kind):
    return {"#": "p", "A": [0, 1, 1, name], "O": tensor(number, shape, **kind)}


def full(number, value, shape=(1,)):
    return op(
        "1.full",
        [],
        [tensor(number, [1])],
        attribute("shape", "1.a_intarray", list(shape)),
        attribute("value", "0.a_f64", value),
        attribute("dtype", "1.a_dtype", "float32"),
    )


def wrapped(ops):
    regions = [{"#": "region_0", "blocks": [{"#": "block_0", "args": [], "ops": ops}]}]
    return {"base_code": {"magic": "pir", "version": 2}, "program": {"regions": regions}}


def write(folder, ops):
    path = folder / "m.json"
    path.write_text(json.dumps(wrapped(ops)))
    return path


X = np.arange(8, dtype=np.float32).reshape(2, 4)


def test_names_of_inputs_and_outputs(tmp_path):
    ops = [data(1), data(2, "y", shape=[3], dtype="0.t_bf16"), fetch(2, "second", 1), fetch(1, "first", 0)]
    graph = read_pir(write(tmp_path, ops))
    assert [(item.name, item.shape, item.dtype) for item in graph.inputs] == [
        ("x", (None, 4), "float32"),
        ("y", (3,), "float32"),
    ]
    assert graph.outputs == (("first", "x"), ("second", "y"))
    assert graph.files == (tmp_path / "m.json",)


def test_a_value_that_is_overwritten(tmp_path):
    tanh = op("1.tanh_", [1], [tensor(2)])
    ops = [data(1), op("1.abs", [1], [tensor(3)]), tanh, op("1.add", [1, 3], [tensor(4)]), fetch(4)]
    (answer,) = evaluate(read_pir(write(tmp_path, ops)), {"x": X})
    np.testing.assert_array_equal(answer, np.tanh(X) + np.abs(X))


def test_what_an_unknown_operator_may_have_overwritten_is_unknown(tmp_path):
    ops = [data(1), op("1.mystery_", [1], [tensor(2)]), op("1.tanh", [1], [tensor(3)]), fetch(3)]
    graph = read_pir(write(tmp_path, ops))
    mystery, tanh = graph.nodes
    assert mystery.op == "pd_op.mystery_" and tanh.inputs != ("x",) and tanh.inputs[0] in mystery.outputs


def test_operators_of_other_dialects_and_control_flow_are_kept(tmp_path):
    branch = op("1.if", [1], [tensor(2)]) | {"regions": [{"blocks": [{"ops": [{"nonsense": 1}]}]}]}
    ops = [data(1), branch, op("3.mine", [2], [tensor(3)]), op("someone.tanh", [3], [tensor(4)]), fetch(4)]
    graph = read_pir(write(tmp_path, ops))
    assert [str(node) for node in graph.nodes] == [
        "op 1 (pd_op.if)",
        "op 2 (custom_op.mine)",
        "op 3 (someone.tanh)",
    ]
    assert [node.op for node in graph.nodes] == ["pd_op.if", "custom_op.mine", "someone.tanh"]


def test_an_input_that_the_translation_does_not_know_is_not_left_out(tmp_path):
    ops = [data(1), op("1.tanh", [1, 1], [tensor(2)]), fetch(2)]
    assert [node.op for node in read_pir(write(tmp_path, ops)).nodes] == ["pd_op.tanh"]


def test_a_second_output_that_is_read_is_not_left_out(tmp_path):
    norm = op("1.layer_norm", [1, 0, 0], [tensor(2), tensor(3), tensor(4)])
    kept = [data(1), norm, fetch(2)]
    graph = read_pir(write(tmp_path, kept))
    assert [node.op for node in graph.nodes] == ["LayerNormalization"]
    graph = read_pir(write(tmp_path, [*kept, fetch(3, "mean", 1)]))
    assert [node.op for node in graph.nodes] == ["pd_op.layer_norm"]


def test_lists_of_values(tmp_path):
    pieces = {"%": 2, "TT": {"#": "0.t_vec", "D": [tensor(0, [-1, 2])["TT"]] * 2}}
    ops = [
        data(1),
        full(5, 1.0),
        op("1.split_with_num", [1, 5], [pieces], attribute("num", "0.a_i32", 2)),
        op("0.slice", [2], [tensor(3)], attribute("index", "0.a_i32", 1)),
        op("0.split", [2], [tensor(6), tensor(7)]),
        op("0.combine", [3, 6], [{"%": 8, "TT": {"#": "0.t_vec", "D": []}}]),
        op("1.concat", [8, 5], [tensor(9)]),
        fetch(9),
    ]
    (answer,) = evaluate(read_pir(write(tmp_path, ops)), {"x": X})
    np.testing.assert_array_equal(answer, X[:, [2, 3, 0, 1]])


@pytest.mark.parametrize(
    ("ops", "words"),
    [
        ([data(1), op("1.tanh", [7], [tensor(2)]), fetch(2)], "op 1: nothing before it gives the value 7"),
        ([data(1), op("1.tanh", [2], [tensor(2)]), fetch(2)], "op 1: nothing before it gives the value 2"),
        ([data(1), op("1.tanh", [1], [tensor(1)]), fetch(1)], "op 1: the value 1 is given twice"),
        ([data(1), data(2), fetch(1)], "op 1: two values are called x"),
        ([data(1), weight(2, "x"), fetch(1)], "op 1: two values are called x"),
        ([data(1), weight(2, "%3"), op("1.tanh", [1], [tensor(3)]), fetch(3)], "two values are called %3"),
        ([data(1)], "it has no outputs"),
        ([], "it has no outputs"),
        ([7], "op 0: it is not an operator"),
        ([data(1), op("0.slice", [1], [tensor(2)], attribute("index", "0.a_i32", 1))], "a list of 1 has not"),
        ([data(1), op("0.split", [1], [tensor(2), tensor(3)])], "2 values out of a list of 1"),
        ([data(1, shape=[1 << 50]), fetch(1)], r"op 0: \[1125899906842624\] is no shape"),
        ([data(1, shape=[1] * 9), fetch(1)], "is no shape"),
        ([data(1, shape=["a"]), fetch(1)], "no shape"),
        ([data(1), fetch(0)], "does not name one output"),
        ([data(1), op("1.tanh", [1], [{"TT": {}}]), fetch(2)], "a value without a number"),
        ([data(1), op("1.tanh", [1], [tensor(2)], {"N": 3}), fetch(2)], "an attribute without a name"),
        ([data(1, dtype="0.t_f8"), fetch(1)], "op 0: the input x is of no known type"),
        ([data(1), weight(2, "w", dtype="0.t_f8"), fetch(1)], "the weight w .* is of a type unknown here"),
        ([data(1), weight(2, "w", (0, 4)), fetch(1)], "the weight w has no elements"),
        ([data(1), weight(2, "w\n", (-1, 4)), fetch(1)], r"the weight w\? has no elements"),
        ([data(1), weight(2, "w"), fetch(1)], r"m\.json needs its weights, m\.pdiparams"),
    ],
)
def test_contradictions_are_named(tmp_path, ops, words):
    with pytest.raises(AlbertError, match=words) as caught:
        read_pir(write(tmp_path, ops))
    assert "\n" not in str(caught.value) and "m.json" in str(caught.value)


def test_lists_that_grow_are_refused(tmp_path):
    twice = op("0.combine", [2, 2], [{"%": 3, "TT": {"#": "0.t_vec", "D": []}}])
    ops = [data(1), op("0.combine", [1, 1], [{"%": 2, "TT": {"#": "0.t_vec", "D": []}}]), twice, fetch(3)]
    with pytest.raises(AlbertError, match="op 2: it has 2 values where there must be one"):
        read_pir(write(tmp_path, ops))
    long = op("0.combine", [1] * 3000, [{"%": 2, "TT": {"#": "0.t_vec", "D": []}}])
    again = [op("1.add_n", [2], [tensor(number)]) for number in range(10, 2010)]
    with pytest.raises(AlbertError, match="more values than a program has"):
        read_pir(write(tmp_path, [data(1), long, *again, fetch(10)]))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xff\xfe",
        b"null",
        b"[1e999, -1e999, NaN]",
        b"9" * 5000,
        json.dumps({"base_code": {"magic": "x"}, "program": {"regions": []}}).encode(),
        json.dumps(wrapped([data(1), fetch(1)])).replace('"ops"', '"o"').encode(),
    ],
)
def test_what_is_no_program(tmp_path, text):
    path = tmp_path / "m.json"
    path.write_bytes(text)
    with pytest.raises(AlbertError, match=r"m\.json is truncated or no Paddle program") as caught:
        read_pir(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_far_too_large(tmp_path):
    with pytest.raises(AlbertError, match=r"cannot read .*m\.json"):
        read_pir(tmp_path / "m.json")
    with (tmp_path / "m.json").open("wb") as file:
        file.truncate(1 << 27)
    with pytest.raises(AlbertError, match="far larger than a program"):
        read_pir(tmp_path / "m.json")


@pytest.mark.parametrize(
    "value",
    [
        1 << 70,
        -(1 << 63),
        float("inf"),
        float("nan"),
        1e300,
        "x",
        None,
        [],
        {},
        True,
        [False],
        [True, 1 << 70],
    ],
)
@pytest.mark.parametrize(
    "kind", ["0.a_i32", "0.a_f64", "0.a_array", "1.a_intarray", "1.a_scalar", "1.a_dtype"]
)
def test_attributes_that_are_no_such_thing(tmp_path, kind, value):
    """They are kept as they are, or make values that nothing needs."""
    values = [value] if "arr" not in kind and kind != "1.a_scalar" else value
    for name in ("shape", "value", "dtype", "values", "axis", "bias"):
        for operator in ("full", "full_int_array", "assign_value", "scale", "softmax", "unbind", "mean"):
            bad = op(f"1.{operator}", [1], [tensor(2)], attribute(name, kind, value))
            bad["A"].append(attribute("shape", "1.a_intarray", [2]))
            bad["A"].append({"N": "value", "AT": {"#": kind, "D": values}})
            read_pir(write(tmp_path, [data(1), bad, fetch(2)]))


def test_truth_values_in_a_shape_are_numbers(tmp_path):
    (answer,) = evaluate(read_pir(write(tmp_path, [full(1, True, [True, 2]), fetch(1)])), {})
    np.testing.assert_array_equal(answer, [[1, 1]])


def test_every_truncation(small_programs, tmp_path):
    folder = small_programs("json") / "layer-norm"
    whole = (folder / "model.json").read_bytes()
    weights = (folder / "model.pdiparams").read_bytes()
    path, beside = tmp_path / "m.json", tmp_path / "m.pdiparams"
    beside.write_bytes(weights)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(AlbertError, match=r"m\.json"):
            read_pir(path)
    path.write_bytes(whole)
    read_pir(path)
    for length in range(len(weights)):
        beside.write_bytes(weights[:length])
        with pytest.raises(AlbertError, match=r"m\.pdiparams"):
            read_pir(path)
    beside.write_bytes(weights + b"x")
    with pytest.raises(AlbertError, match="1 bytes more"):
        read_pir(path)


def places(value, path=()):
    """The path of every value in a JSON document."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("#%DNATIO"), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400, deadline=None)
@given(st.data())
def test_any_part_replaced(small_programs, tmp_path, data):
    folder = small_programs("json") / data.draw(st.sampled_from(["layer-norm", "split", "embedding-padded"]))
    program = json.loads((folder / "model.json").read_text())
    (tmp_path / "m.pdiparams").write_bytes(
        (folder / "model.pdiparams").read_bytes() if (folder / "model.pdiparams").exists() else b""
    )
    *path, last = data.draw(st.sampled_from([place for place in places(program) if place]))
    program = copy.deepcopy(program)
    part = program
    for key in path:
        part = part[key]
    part[last] = data.draw(JSON)
    (tmp_path / "m.json").write_text(json.dumps(program))
    try:
        read_pir(tmp_path / "m.json")
    except AlbertError as error:
        assert "\n" not in str(error)
