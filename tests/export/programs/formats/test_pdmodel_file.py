"""Programs in .pdmodel: what is read, and what is refused."""

import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from albert_export.programs.formats.pdmodel_file import read_pdmodel
from albert_runtime.errors import AlbertError

from .evaluate import evaluate

FLOAT32, BFLOAT16, INT64 = 5, 22, 3


def varint(value):
    value %= 1 << 64
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def float_field(number, value):
    return varint(number << 3 | 5) + struct.pack("<f", value)


def variable(name, shape=(-1, 4), dtype=FLOAT32, persistable=False, packed=False):
    dims = field(2, b"".join(map(varint, shape))) if packed else b"".join(field(2, size) for size in shape)
    tensor = field(1, dtype) + dims
    kind = field(1, 7) + field(3, field(1, tensor))
    return field(3, field(1, name) + field(2, kind) + field(3, int(persistable)))


def attribute(name, kind, payload):
    return field(4, field(1, name) + field(2, kind) + payload)


def op(kind, inputs, outputs, *attributes):
    def parameters(number, named):
        return b"".join(
            field(number, field(1, parameter) + b"".join(field(2, name) for name in names))
            for parameter, names in named.items()
        )

    return field(4, parameters(1, inputs) + parameters(2, outputs) + field(3, kind) + b"".join(attributes))


def feed(name, column=0):
    return op("feed", {"X": ["feed"]}, {"Out": [name]}, attribute("col", 0, field(3, column)))


def fetch(name, column=0):
    return op("fetch", {"X": [name]}, {"Out": ["fetch"]}, attribute("col", 0, field(3, column)))


def write(folder, *parts):
    path = folder / "m.pdmodel"
    path.write_bytes(field(1, field(1, 0) + field(2, -1) + b"".join(parts)))
    return path


X = np.arange(8, dtype=np.float32).reshape(2, 4)
VARIABLES = b"".join(variable(name) for name in "xyz")


def test_inputs_and_outputs_are_in_the_order_of_their_columns(tmp_path):
    more = variable("mask", [-1, 3], INT64, packed=True) + variable("half", [2], BFLOAT16)
    ops = [feed("mask", 1), feed("x", 0), feed("half", 2), fetch("x", 1), fetch("mask", 0)]
    graph = read_pdmodel(write(tmp_path, VARIABLES, more, *ops))
    assert [(item.name, item.shape, item.dtype) for item in graph.inputs] == [
        ("x", (None, 4), "float32"),
        ("mask", (None, 3), "int64"),
        ("half", (2,), "float32"),
    ]
    assert graph.outputs == (("mask", "mask"), ("x", "x"))
    assert graph.files == (tmp_path / "m.pdmodel",)


def test_a_variable_that_is_written_twice(tmp_path):
    ops = [
        feed("x"),
        op("tanh", {"X": ["x"]}, {"Out": ["y"]}),
        fetch("y", 0),
        op("abs", {"X": ["y"]}, {"Out": ["y"]}),
        op("elementwise_add", {"X": ["x"], "Y": ["y"]}, {"Out": ["y"]}),
        fetch("y", 1),
    ]
    graph = read_pdmodel(write(tmp_path, VARIABLES, *ops))
    values = [value for node in graph.nodes for value in node.outputs]
    assert len({*values, "x"}) == len(values) + 1
    first, second = evaluate(graph, {"x": -X})
    np.testing.assert_array_equal(first, np.tanh(-X))
    np.testing.assert_array_equal(second, np.abs(np.tanh(X)) - X)


def test_attributes_of_every_kind(tmp_path):
    ops = [
        feed("x"),
        op(
            "scale",
            {"X": ["x"]},
            {"Out": ["y"]},
            attribute("scale", 1, float_field(4, 0.5)),
            attribute("bias", 15, varint(19 << 3 | 1) + struct.pack("<d", 2.0)),
            attribute("bias_after_scale", 6, field(10, 0)),
        ),
        op("transpose2", {"X": ["y"]}, {"Out": ["z"]}, attribute("axis", 3, field(6, varint(1) + varint(0)))),
        op(
            "assign_value",
            {},
            {"Out": ["w"]},
            attribute("shape", 11, field(15, 2)),
            attribute("dtype", 0, field(3, FLOAT32)),
            attribute(
                "values",
                17,
                field(21, field(1, 2) + field(3, -7))
                + field(21, field(1, 3) + varint(4 << 3 | 1) + struct.pack("<d", 0.5)),
            ),
        ),
        fetch("z", 0),
        fetch("w", 1),
    ]
    transposed, made = evaluate(read_pdmodel(write(tmp_path, VARIABLES, variable("w", [2]), *ops)), {"x": X})
    np.testing.assert_array_equal(transposed, ((X + 2) * 0.5).T)
    assert made.tolist() == [-7, 0.5] and made.dtype == np.float32


@pytest.mark.parametrize("text", ["-inf", "inf", "nan", "9007199254740993", "0.1", "", "one"])
def test_the_text_of_a_constant_counts_before_its_float(tmp_path, text):
    made = op(
        "fill_constant",
        {},
        {"Out": ["y"]},
        attribute("shape", 11, field(15, 1)),
        attribute("dtype", 0, field(3, 6)),
        attribute("value", 1, float_field(4, 3.0)),
        attribute("str_value", 2, field(5, text)),
    )
    graph = read_pdmodel(write(tmp_path, VARIABLES, feed("x"), made, fetch("y")))
    if text == "one":
        assert [node.op for node in graph.nodes] == ["fill_constant"]
        return
    (value,) = evaluate(graph, {"x": X})
    np.testing.assert_array_equal(value, [3.0 if text == "" else float(text)])


def test_operators_of_control_flow_are_kept(tmp_path):
    block = attribute("sub_block", 8, field(12, 1))
    loop = op("while", {"X": ["x"], "Condition": ["y"]}, {"Out": ["x"], "StepScopes": ["scopes"]}, block)
    ops = [feed("x"), op("abs", {"X": ["x"]}, {"Out": ["y"]}), loop, fetch("x")]
    graph = read_pdmodel(write(tmp_path, VARIABLES, *ops))
    kept = graph.nodes[-1]
    assert (kept.op, kept.inputs, str(kept)) == ("while", ("x", "y"), "x (while)")
    assert graph.outputs[0][0] == "x" and graph.outputs[0][1] == kept.outputs[0] != "x"


def test_dropout_that_drops_is_kept(tmp_path):
    mode = attribute("dropout_implementation", 2, field(5, "upscale_in_train"))
    training = op("dropout", {"X": ["x"]}, {"Out": ["y"], "Mask": ["z"]}, mode)
    testing = op("dropout", {"X": ["x"]}, {"Out": ["y"]}, mode, attribute("is_test", 6, field(10, 1)))
    kinds = [
        [node.op for node in read_pdmodel(write(tmp_path, VARIABLES, feed("x"), made, fetch("y"))).nodes]
        for made in (training, testing)
    ]
    assert kinds == [["dropout"], ["Identity"]]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([feed("x"), fetch("y")], "nothing gives y before it is read"),
        ([feed("x"), op("tanh", {"X": ["y"]}, {"Out": ["y"]}), fetch("y")], "nothing gives y before"),
        ([feed("x"), feed("x", 1), fetch("x")], "two values are called x"),
        ([feed("x")], "it has no outputs"),
        ([feed("a\nb"), fetch("a\nb")], r"the input a\?b is of no known type"),
        ([op("feed", {}, {"Out": ["x", "y"]}), fetch("x")], "is not one variable"),
        ([feed("x"), op("fetch", {}, {}), fetch("x")], "is not one variable"),
        ([feed("x"), op("fetch", {"X": ["x"]}, {}, attribute("col", 2, field(5, "a")))], "is no number"),
        ([variable("a", [1 << 50])], r"a: \[1125899906842624\] is no shape"),
        ([variable("a", [1] * 9)], "a: .* is no shape"),
        ([variable("a", [0, 1 << 40], persistable=True)], "the weight a has no elements"),
        ([variable("a", [-1], persistable=True)], "the weight a has no elements"),
        ([variable("a", [2], 23, persistable=True)], "of a type unknown here"),
        ([variable("a", [2], persistable=True)], r"m\.pdmodel needs its weights, m\.pdiparams"),
        ([field(3, 7)], "a field is of another type"),
        ([field(3, b"")], "a field is missing"),
        ([field(4, b"\x07")], "no.* a protocol buffer"),
        ([field(4, field(3, b"\xff"))], "not UTF-8"),
        ([feed("x"), op("scale", {}, {}, attribute("scale", 1, field(4, b"abc")))], "a number is cut short"),
    ],
)
def test_contradictions_are_named(tmp_path, parts, words):
    with pytest.raises(AlbertError, match=words) as caught:
        read_pdmodel(write(tmp_path, VARIABLES, *parts))
    assert "\n" not in str(caught.value) and "m.pdmodel" in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\x00", b"not a program", b"\n", b"\xff" * 20])
def test_what_is_no_program(tmp_path, data):
    path = tmp_path / "m.pdmodel"
    path.write_bytes(data)
    with pytest.raises(AlbertError, match=r"m\.pdmodel is truncated or no Paddle program"):
        read_pdmodel(path)


def test_a_file_that_is_not_there_or_far_too_large(tmp_path):
    with pytest.raises(AlbertError, match=r"cannot read .*m\.pdmodel"):
        read_pdmodel(tmp_path / "m.pdmodel")
    with (tmp_path / "m.pdmodel").open("wb") as file:
        file.truncate(1 << 27)
    with pytest.raises(AlbertError, match="far larger than a program"):
        read_pdmodel(tmp_path / "m.pdmodel")


def test_every_truncation(small_programs, tmp_path):
    folder = small_programs("pdmodel") / "layer-norm"
    whole = (folder / "model.pdmodel").read_bytes()
    weights = (folder / "model.pdiparams").read_bytes()
    path, beside = tmp_path / "m.pdmodel", tmp_path / "m.pdiparams"
    beside.write_bytes(weights)
    refused = 0
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        try:
            read_pdmodel(path)
        except AlbertError as error:
            assert "m.pdmodel" in str(error)
            refused += 1
    # It can be cut where only its version follows.
    assert refused >= len(whole) - 10
    path.write_bytes(whole)
    read_pdmodel(path)
    for length in range(len(weights)):
        beside.write_bytes(weights[:length])
        with pytest.raises(AlbertError, match=r"m\.pdiparams"):
            read_pdmodel(path)


def test_weights_of_another_program(small_programs, tmp_path):
    programs = small_programs("pdmodel")
    (tmp_path / "m.pdmodel").write_bytes((programs / "layer-norm" / "model.pdmodel").read_bytes())
    (tmp_path / "m.pdiparams").write_bytes((programs / "embedding" / "model.pdiparams").read_bytes())
    with pytest.raises(AlbertError, match=r"m\.pdiparams: tensor .* has shape \[6, 4\], not \[1, 4\]"):
        read_pdmodel(tmp_path / "m.pdmodel")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400, deadline=None)
@given(st.data())
def test_any_bytes_replaced(small_programs, tmp_path, data):
    folder = small_programs("pdmodel") / data.draw(st.sampled_from(["layer-norm", "split", "fc", "slice"]))
    program = bytearray((folder / "model.pdmodel").read_bytes())
    if (folder / "model.pdiparams").exists():
        (tmp_path / "m.pdiparams").write_bytes((folder / "model.pdiparams").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        program[data.draw(st.integers(0, len(program) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "m.pdmodel").write_bytes(program)
    try:
        read_pdmodel(tmp_path / "m.pdmodel")
    except AlbertError as error:
        assert "\n" not in str(error)
