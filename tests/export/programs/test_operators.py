"""The operators of a graph against ONNX Runtime, on inputs of many shapes."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from albert_export.errors import ExportError
from albert_export.programs.graph import Node
from albert_export.programs.operators import OPERATORS, run_node

from .operator_cases import CASES, whole

OPSET = 20
# Operators that ONNX has not, of its own or with our attributes; each has tests below.
OURS = {"AdditiveMask", "ScoreMask"}


def oracle(op, inputs, attributes, outputs):
    """What ONNX Runtime gives for one node."""
    attributes = dict(attributes)
    if op == "Cast":
        attributes = {"to": helper.np_dtype_to_tensor_dtype(np.dtype(attributes["dtype"]))}
    elif op == "ConstantOfShape":
        attributes["value"] = onnx.numpy_helper.from_array(attributes["value"])
    names = [f"in{place}" for place in range(len(inputs))]
    results = [f"out{place}" for place in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node(op, names, results, **attributes)],
        "one",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in zip(names, inputs, strict=True)
        ],
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in results],
    )
    for result in graph.output:
        result.ClearField("type")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, dict(zip(names, inputs, strict=True)))


def test_every_operator_is_compared():
    assert CASES.keys() | OURS == OPERATORS.keys()


@pytest.mark.parametrize("op", CASES)
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_operators_compute_what_onnx_runtime_does(op, data):
    inputs, attributes, outputs = (*data.draw(CASES[op]), 1)[:3]
    inputs = [np.asarray(value) for value in inputs]
    expected = oracle(op, inputs, attributes, outputs)
    results = run_node(Node(op, (), (), attributes), tuple(inputs))
    for result, value in zip(results, expected, strict=True):
        assert result.dtype == value.dtype
        np.testing.assert_allclose(result, value, rtol=1e-5, atol=2e-6)


X = np.arange(6, dtype=np.float32).reshape(2, 3)


def compute(op, *inputs, **attributes):
    (result,) = run_node(Node(op, (), (), attributes), inputs)
    return result


def test_products_with_the_attributes_of_fused_ones():
    np.testing.assert_array_equal(compute("MatMul", X, X, transB=1, alpha=0.5), X @ X.T / 2)
    np.testing.assert_array_equal(compute("MatMul", X, X, transA=1), X.T @ X)


def test_rows_looked_up_as_zeros():
    rows = compute("Gather", X, whole([[1, 0]]), padding_idx=1)
    np.testing.assert_array_equal(rows, [[[0, 0, 0], X[0]]])


def test_dimensions_that_are_not_1_may_be_left():
    x = X[:, None]
    assert compute("Squeeze", x, whole([0, 1]), only_ones=1).shape == (2, 3)
    assert compute("Squeeze", x, whole([-1]), only_ones=1).shape == (2, 1, 3)
    with pytest.raises(ExportError, match="do not fit"):
        compute("Squeeze", x, whole([0, 1]))


def test_masks_of_fused_attention():
    mask = np.array([[1, 1, 0], [1, 0, 0]], np.int32)
    expected = np.where(mask, np.float32(0), np.float32(-7))[:, None, None]
    for given_as in (mask, mask.sum(1)):
        added = compute("ScoreMask", given_as, whole(3), filtered=-7.0)
        assert added.dtype == np.float32
        np.testing.assert_array_equal(added, expected)
    np.testing.assert_array_equal(compute("AdditiveMask", X), X)
    np.testing.assert_array_equal(compute("AdditiveMask", mask == 1), np.where(mask, 0, -np.inf))


def test_results_in_half_precision():
    half = X.astype(np.float16)
    for op in ("Erf", "Gelu", "Softmax", "LayerNormalization", "Sigmoid", "ReduceMean"):
        assert compute(op, half).dtype == np.float16


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("Expand", [X[:1, :1], whole([1 << 20, 1 << 20])], {}),
        ("ConstantOfShape", [whole([1 << 40])], {}),
        ("ConstantOfShape", [whole([-1])], {}),
        ("Tile", [X, whole([1 << 20, 1 << 20])], {}),
        ("Range", [whole(0), whole(1 << 40), whole(1)], {}),
        ("Range", [whole(0), whole(1), whole(0)], {}),
        ("Add", [np.broadcast_to(X[:1, :1], (1 << 20, 1)), np.broadcast_to(X[0, :1], (1 << 20,))], {}),
        ("MatMul", [np.broadcast_to(X[:1, :1], (1 << 20, 1)), np.broadcast_to(X[:1, :1], (1, 1 << 20))], {}),
        ("Gather", [X, whole([7])], {}),
        ("Reshape", [X, whole([5])], {}),
        ("Split", [X, whole([5, 1])], {}),
        ("Split", [X], {"num_outputs": 0}),
        ("Split", [X], {"num_outputs": 1 << 40}),
        ("GatherND", [np.broadcast_to(X[0], (4, 1 << 20, 3)), np.zeros((1 << 10, 1), int)], {}),
        ("Div", [whole(1), whole(0)], {}),
        ("CumSum", [X, whole(0)], {"reverse": 1}),
        ("ScoreMask", [whole([3]), whole(1 << 40)], {"filtered": -1.0}),
        ("Transpose", [X], {"perm": (0, 0)}),
        ("Mystery", [X], {}),
    ],
)
def test_what_cannot_be_computed_is_refused(op, inputs, attributes):
    with pytest.raises(ExportError):
        compute(op, *inputs, **attributes)
