"""Fused operators, taken apart, against ONNX Runtime's own answers."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from albert_export.programs.operators import OPERATORS
from albert_export.programs.program_file import read_program

from .evaluate import evaluate

MICROSOFT = "com.microsoft"
BATCH, LENGTH, HEADS, SIZE = 2, 5, 2, 3
HIDDEN = HEADS * SIZE
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32)
LENGTHS = MASK.sum(1).astype(np.int32)
HOLES = np.array([[1, 0, 1, 1, 1], [0, 1, 1, 0, 1]], np.int32)
ROWS = (BATCH, LENGTH, HIDDEN)
BY_HEAD = (BATCH, HEADS, LENGTH, SIZE)
SCORES = (BATCH, HEADS, LENGTH, LENGTH)


def some(*shape):
    return np.random.default_rng(sum(shape) + len(shape)).standard_normal(shape).astype(np.float32)


IDS = np.random.default_rng(0).integers(0, 7, (BATCH, LENGTH)).astype(np.int32)
TYPES = (IDS % 2).astype(np.int32)
TABLES = [some(7, HIDDEN), some(9, HIDDEN)]
NORM = [some(HIDDEN) + 1, some(HIDDEN) / 2]


def fused(op, inputs, weights=(), outputs=1, **attributes):
    """A case: the operator, arrays by place (None left out), which places are constants, attributes."""
    return op, inputs, frozenset(weights), outputs, attributes


def attention(mask=None, added=None, bias=True, **attributes):
    weight, vector = some(HIDDEN, 3 * HIDDEN), some(3 * HIDDEN) if bias else None
    inputs = [some(*ROWS), weight, vector, mask, None, added]
    return fused(f"{MICROSOFT}.Attention", inputs, (1, 2), num_heads=HEADS, **attributes)


def multi_head(mask=None, added=None, bias=True, **attributes):
    inputs = [some(*ROWS), some(*ROWS) + 1, some(*ROWS) / 2, some(3 * HIDDEN) if bias else None, mask, added]
    return fused(f"{MICROSOFT}.MultiHeadAttention", inputs, (3,), num_heads=HEADS, **attributes)


def embeddings(types=True, mask=None, positions=None, outputs=1, **attributes):
    inputs = [
        IDS,
        TYPES if types else None,
        *TABLES,
        some(2, HIDDEN) if types else None,
        *NORM,
        mask,
        positions,
    ]
    return fused(f"{MICROSOFT}.EmbedLayerNormalization", inputs, range(2, 7), outputs, **attributes)


CASES = {
    "product": fused(f"{MICROSOFT}.FusedMatMul", [some(2, 3, 4), some(4, 5)], alpha=0.25),
    "transposed product": fused(
        f"{MICROSOFT}.FusedMatMul", [some(2, 4, 3), some(2, 5, 4)], transA=1, transB=1, alpha=2.0
    ),
    "Gemm and relu": fused(f"{MICROSOFT}.FusedGemm", [some(3, 4), some(4, 5), some(5)], activation="Relu"),
    "Gemm and tanh": fused(
        f"{MICROSOFT}.FusedGemm",
        [some(3, 4), some(5, 4), some(5)],
        activation="Tanh",
        transB=1,
        alpha=0.5,
        beta=2.0,
    ),
    "Gemm and sigmoid": fused(
        f"{MICROSOFT}.FusedGemm", [some(3, 4), some(4, 5), some(5)], activation="Sigmoid"
    ),
    "Gelu": fused(f"{MICROSOFT}.Gelu", [some(3, 40) * 3]),
    "BiasGelu": fused(f"{MICROSOFT}.BiasGelu", [some(3, 40) * 3, some(40)]),
    "FastGelu": fused(f"{MICROSOFT}.FastGelu", [some(3, 40) * 3]),
    "FastGelu with bias": fused(f"{MICROSOFT}.FastGelu", [some(3, 40) * 3, some(40)]),
    "SkipLayerNormalization": fused(
        f"{MICROSOFT}.SkipLayerNormalization", [some(*ROWS), some(*ROWS) * 2, *NORM], epsilon=0.1
    ),
    "its default epsilon": fused(
        f"{MICROSOFT}.SkipLayerNormalization", [some(*ROWS) * 1e-5, some(*ROWS) * 1e-6, *NORM]
    ),
    "without bias of the norm": fused(
        f"{MICROSOFT}.SkipLayerNormalization", [some(*ROWS), some(*ROWS), NORM[0]], epsilon=1e-5
    ),
    "with bias and sum": fused(
        f"{MICROSOFT}.SkipLayerNormalization",
        [some(*ROWS), some(*ROWS) * 2, *NORM, some(HIDDEN)],
        outputs=(0, 3),
        epsilon=1e-12,
    ),
    "embeddings": embeddings(epsilon=1e-5),
    "embeddings, default epsilon": embeddings(),
    "embeddings without types": embeddings(types=False),
    "embeddings with lengths": embeddings(mask=MASK, outputs=2),
    "embeddings with positions": embeddings(positions=IDS % 5 + 2),
    "embeddings with their sum": embeddings(mask=MASK, outputs=3),
    "attention": attention(),
    "attention without bias": attention(bias=False),
    "attention with a mask": attention(MASK),
    "attention with holes": attention(HOLES),
    "attention with lengths": attention(LENGTHS),
    "attention with another filter": attention(HOLES, mask_filter_value=-1.5),
    "attention with a scale": attention(MASK, scale=0.3),
    "attention with scores added": attention(None, some(*SCORES)),
    "attention with both": attention(HOLES, some(*SCORES)),
    "heads": multi_head(),
    "heads without bias": multi_head(bias=False),
    "heads with a mask": multi_head(MASK),
    "heads with holes": multi_head(HOLES, mask_filter_value=-2.0),
    "heads with lengths": multi_head(LENGTHS),
    "heads with a scale": multi_head(scale=0.3),
    "heads with scores added": multi_head(None, some(*SCORES)),
    "ONNX's attention": fused("Attention", [some(*BY_HEAD), some(*BY_HEAD) + 1, some(*BY_HEAD) / 2]),
    "ONNX's of rows": fused(
        "Attention", [some(*ROWS), some(*ROWS) + 1, some(*ROWS)], q_num_heads=HEADS, kv_num_heads=HEADS
    ),
    "ONNX's with a scale": fused("Attention", [some(*BY_HEAD), some(*BY_HEAD), some(*BY_HEAD)], scale=0.3),
    "ONNX's with a boolean mask": fused(
        "Attention",
        [some(*BY_HEAD), some(*BY_HEAD), some(*BY_HEAD), np.repeat(HOLES[:, None, None] == 1, LENGTH, 2)],
    ),
    "ONNX's with scores added": fused(
        "Attention", [some(*BY_HEAD), some(*BY_HEAD), some(*BY_HEAD), some(*SCORES)]
    ),
}


def written(tmp_path, case):
    """The path of a model of one node, and what to feed it."""
    op, inputs, weights, outputs, attributes = case
    domain, _, kind = op.rpartition(".")
    names = ["" if value is None else f"in{place}" for place, value in enumerate(inputs)]
    places = outputs if isinstance(outputs, tuple) else tuple(range(outputs))
    least = 2 if kind == "EmbedLayerNormalization" else 0  # ONNX Runtime wants that many outputs of it
    results = [f"out{place}" if place in places else "" for place in range(max(places) + 1)]
    results += [f"unused{place}" for place in range(len(results), least)]
    given = {f"in{place}": value for place, value in enumerate(inputs) if value is not None}
    constant = {name for place, name in enumerate(names) if place in weights}
    graph = helper.make_graph(
        [helper.make_node(kind, names, results, domain=domain, name="fused", **attributes)],
        "one",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in given.items()
            if name not in constant
        ],
        [onnx.ValueInfoProto(name=f"out{place}") for place in places],
        [numpy_helper.from_array(given[name], name) for name in given if name in constant],
    )
    imports = [helper.make_opsetid("", 23), helper.make_opsetid(MICROSOFT, 1)]
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=10), path)
    return path, {name: value for name, value in given.items() if name not in constant}


@pytest.mark.parametrize("name", CASES)
def test_the_parts_compute_what_the_fused_operator_does(tmp_path, name):
    path, given = written(tmp_path, CASES[name])
    graph = read_program(path)
    assert {node.op for node in graph.nodes} <= OPERATORS.keys()
    assert {node.kind for node in graph.nodes} == {CASES[name][0]} and graph.nodes[0].name == "fused"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    expected = session.run(None, given)
    found = evaluate(graph, given)
    for values, theirs in zip(found, expected, strict=True):
        assert values.shape == theirs.shape
        # FastGelu and the sums of ONNX Runtime are float32's, in another order.
        np.testing.assert_allclose(values, theirs, rtol=2e-5, atol=3e-6)


X, W = some(*ROWS), some(HIDDEN, 3 * HIDDEN)
UNUSUAL = {
    "batches transposed": fused(f"{MICROSOFT}.FusedMatMul", [some(2, 3, 4), some(4, 5)], transBatchA=1),
    "another activation": fused(f"{MICROSOFT}.FusedGemm", [some(3, 4), some(4, 5)], activation="LeakyRelu"),
    "a decoder's mask": attention(unidirectional=1),
    "rotary positions": attention(do_rotary=1),
    "other sizes of heads": attention(qkv_hidden_sizes=[HIDDEN, HIDDEN, HIDDEN]),
    "no heads": fused(f"{MICROSOFT}.Attention", [X, W], (1,)),
    "heads that do not divide": fused(f"{MICROSOFT}.Attention", [X, W], (1,), num_heads=5),
    "a matrix that is no constant": fused(f"{MICROSOFT}.Attention", [X, W], num_heads=HEADS),
    "keys of before": fused(f"{MICROSOFT}.Attention", [X, W, None, None, X], (1,), num_heads=HEADS),
    "packed heads": fused(f"{MICROSOFT}.MultiHeadAttention", [X], num_heads=HEADS),
    "a bias that is no constant": fused(f"{MICROSOFT}.MultiHeadAttention", [X, X, X, W[0]], num_heads=HEADS),
    "a decoder's heads": multi_head(unidirectional=1),
    "the mean of a norm": fused(f"{MICROSOFT}.SkipLayerNormalization", [X, X, *NORM], outputs=2),
    "ONNX's of a decoder": fused("Attention", [X, X, X], q_num_heads=HEADS, kv_num_heads=HEADS, is_causal=1),
    "ONNX's with a soft cap": fused("Attention", [X, X, X], q_num_heads=HEADS, softcap=3.0),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_what_cannot_be_taken_apart_is_kept_by_its_name(tmp_path, name):
    graph = read_program(written(tmp_path, UNUSUAL[name])[0])
    assert [(node.op, str(node)) for node in graph.nodes] == [
        (UNUSUAL[name][0], f"fused ({UNUSUAL[name][0]})")
    ]
