"""The graph: what it shares, what it does not contain, and paddle2onnx as an oracle of its result."""

import importlib.util
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest

from albert_export.onnx_graph import build_graph
from albert_export.onnx_nodes import Numbers
from albert_export.precision import FP32
from albert_export.variants import VARIANTS
from albert_export.verify import make_batches
from albert_runtime.artifact.manifest import Manifest
from albert_runtime.artifact.tasks import TASKS, Head
from albert_runtime.artifact.tensor_table import TensorRecord, tensor_shapes


def build(config, folder, head=Head()):  # noqa: B008 - frozen
    """The graph, checked, over a made-up weight file with a hole for each tensor, at odd offsets."""
    offset, tensors = 31, []
    for name, shape in sorted(tensor_shapes(config, head).items()):
        length = 4 * int(np.prod(shape))
        tensors.append(TensorRecord(name, "float32", shape, offset, length))
        offset += length + 27
    (folder / "m.pdiparams").touch()
    os.truncate(folder / "m.pdiparams", offset)
    model = build_graph(config, head, Numbers(FP32), tensors, "m.pdiparams", "1")
    onnx.save(model, folder / "m.onnx")
    onnx.checker.check_model(str(folder / "m.onnx"), full_check=True)
    return model, tensors


def inferred_shapes(model):
    graph = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    return {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*graph.value_info, *graph.output, *graph.input]
    }


@pytest.mark.parametrize("name", VARIANTS)
def test_weights_are_shared_by_reference(name, tmp_path):
    config = VARIANTS[name]
    model, tensors = build(config, tmp_path)
    external = {item.name: item for item in model.graph.initializer if item.external_data}
    assert external.keys() == config.tensor_shapes().keys()
    for tensor in tensors:
        entry = {pair.key: pair.value for pair in external[tensor.name].external_data}
        assert entry == {
            "location": "m.pdiparams",
            "offset": str(tensor.offset),
            "length": str(tensor.length),
        }
        assert tuple(external[tensor.name].dims) == tensor.shape
    small = [item for item in model.graph.initializer if not item.external_data]
    assert len(small) == 11 and sum(item.ByteSize() for item in small) < 1000
    assert model.ByteSize() < 200_000

    # Every weight is named by the nodes that use it, once per depth, with nothing in between.
    uses = Counter(entry for node in model.graph.node for entry in node.input if entry in external)
    per_layer = {key for key in external if "albert_layer_groups" in key}
    assert all(uses[key] == (config.num_hidden_layers if key in per_layer else 1) for key in external)
    users = {node.op_type for node in model.graph.node if set(node.input) & external.keys()}
    assert users == {"Gather", "Slice", "Add", "MatMul", "LayerNormalization"}
    operators = Counter(node.op_type for node in model.graph.node)
    assert operators["Shape"] == operators["Slice"] == 1
    assert not operators.keys() & {"Identity", "Constant", "Squeeze", "Concat", "Expand"}


def test_names_and_shapes(tmp_path):
    config = VARIANTS["albert-base-v2"]
    model, _ = build(config, tmp_path)
    assert [value.name for value in model.graph.input] == ["input_ids", "attention_mask", "token_type_ids"]
    assert [value.name for value in model.graph.output] == ["last_hidden_state", "pooled_output"]
    names = {node.name for node in model.graph.node}
    assert {"layer3/attention/query", "layer11/ffn_output", "embeddings/words"} <= names
    assert len(names) == len(model.graph.node)
    shapes = inferred_shapes(model)
    assert (
        shapes["input_ids"] == shapes["attention_mask"] == shapes["token_type_ids"] == ["batch", "sequence"]
    )
    assert shapes["last_hidden_state"] == ["batch", "sequence", 768]
    assert shapes["pooled_output"] == ["batch", 768]
    assert shapes["layer3/attention/weights"] == ["batch", 12, "sequence", "sequence"]
    assert model.opset_import[0].version >= 17


@pytest.mark.parametrize(
    ("activation", "operator", "form"),
    [("gelu", "Gelu", b"none"), ("gelu_new", "Gelu", b"tanh"), ("relu", "Relu", None)],
)
def test_activations(tiny, tmp_path, activation, operator, form):
    model, _ = build(replace(tiny, hidden_act=activation), tmp_path)
    nodes = [node for node in model.graph.node if node.name.endswith("/activation")]
    assert len(nodes) == tiny.num_hidden_layers
    for node in nodes:
        assert node.op_type == operator
        assert [attribute.s for attribute in node.attribute] == ([] if form is None else [form])


def test_groups_inner_layers_and_no_pooler(tiny, tmp_path):
    config = replace(
        tiny,
        num_hidden_layers=4,
        num_hidden_groups=2,
        inner_group_num=2,
        add_pooling_layer=False,
        padding_idx=None,
    )
    model, _ = build(config, tmp_path)
    assert [value.name for value in model.graph.output] == ["last_hidden_state"]
    weights = {node.name: node.input[1] for node in model.graph.node if node.op_type == "MatMul"}
    groups = "encoder.albert_layer_groups"
    assert weights["layer1/inner0/ffn"] == f"{groups}.0.albert_layers.0.ffn.weight"
    assert weights["layer2/inner1/ffn"] == f"{groups}.1.albert_layers.1.ffn.weight"
    assert len([name for name in weights if name.endswith("/ffn")]) == 8
    assert "Where" not in {node.op_type for node in model.graph.node}


def task_model(tiny, task, tied=True):
    head = Head.of(task, num_labels=3, tied_decoder=tied)
    return replace(tiny, add_pooling_layer=head.reads_pooled or task == "model"), head


OUTPUTS = {
    "model": {"last_hidden_state": ["batch", "sequence", 12], "pooled_output": ["batch", 12]},
    "masked-lm": {"prediction_scores": ["batch", "sequence", 60]},
    "sequence-classification": {"logits": ["batch", 3]},
    "token-classification": {"logits": ["batch", "sequence", 3]},
    "question-answering": {
        "start_logits": ["batch", "sequence"],
        "end_logits": ["batch", "sequence"],
    },
    "multiple-choice": {"logits": ["batch", "choices"]},
    "pretraining": {"prediction_scores": ["batch", "sequence", 60], "sop_logits": ["batch", 2]},
}


@pytest.mark.parametrize("task", TASKS)
def test_inputs_and_outputs_of_every_task(tiny, tmp_path, task):
    config, head = task_model(tiny, task)
    model, _ = build(config, tmp_path, head)
    shapes = inferred_shapes(model)
    assert [value.name for value in model.graph.output] == list(OUTPUTS[task])
    assert {name: shapes[name] for name in OUTPUTS[task]} == OUTPUTS[task]
    inputs = ["batch", "choices", "sequence"] if task == "multiple-choice" else ["batch", "sequence"]
    assert all(
        shapes[value.name] == inputs and value.type.tensor_type.elem_type == onnx.TensorProto.INT64
        for value in model.graph.input
    )
    produced = [name for node in model.graph.node for name in node.output]
    read = {name for node in model.graph.node for name in node.input} | set(OUTPUTS[task])
    assert len(produced) == len(set(produced)) and read.issuperset(produced)
    assert read.issuperset(item.name for item in model.graph.initializer)


@pytest.mark.parametrize("task", ["masked-lm", "pretraining"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_decoder_is_read_as_stored(tiny, tmp_path, task, tied):
    config, head = task_model(tiny, task, tied)
    model, _ = build(config, tmp_path, head)
    external = {item.name for item in model.graph.initializer if item.external_data}
    assert external == tensor_shapes(config, head).keys()
    words = "embeddings.word_embeddings.weight"
    (decoder,) = [node for node in model.graph.node if node.op_type == "Gemm"]
    assert list(decoder.input)[1:] == [words if tied else "predictions.decoder.weight", "predictions.bias"]
    uses = [node.op_type for node in model.graph.node if words in node.input]
    assert uses == (["Gather", "Gemm"] if tied else ["Gather"])
    operators = Counter(node.op_type for node in model.graph.node)
    assert operators["Shape"] == 1  # the one that cuts the position table
    assert operators["Transpose"] == 4 * config.num_hidden_layers  # those of the attention


def test_the_vocabulary_head_has_its_own_epsilon(tiny, tmp_path):
    config, head = task_model(tiny, "masked-lm")
    model, _ = build(config, tmp_path, replace(head, decoder_norm_eps=0.25))
    epsilons = {
        node.input[1]: {attribute.name: attribute.f for attribute in node.attribute}["epsilon"]
        for node in model.graph.node
        if node.op_type == "LayerNormalization"
    }
    assert epsilons.pop("predictions.layer_norm.weight") == 0.25
    assert set(epsilons.values()) == {np.float32(1e-12)}


@pytest.mark.parametrize("case", ["model-gelu_new", "multiple-choice"])
def test_layers_are_fused_by_onnxruntime(export_artifact, golden, tmp_path, case):
    """Known shapes let ONNX Runtime merge each residual with its norm and each bias with its activation."""
    program = export_artifact(golden / case)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(str(program.with_suffix(".onnx")), options)
    optimised = onnx.load(tmp_path / "optimised.onnx", load_external_data=False)
    operators = Counter(node.op_type for node in optimised.graph.node)
    assert operators["SkipLayerNormalization"] == 6
    assert operators["FastGelu"] == 3


@pytest.mark.parametrize(
    "case", ["model-gelu", "model-groups", "masked-lm", "question-answering", "multiple-choice"]
)
def test_paddle2onnx_agrees(export_artifact, golden, tmp_path, case):
    """Another converter's graph of the same program gives the same numbers."""
    if importlib.util.find_spec("paddle2onnx") is None:
        pytest.skip("paddle2onnx has no wheel for this Python")
    program = export_artifact(golden / case)
    converted = tmp_path / "converted.onnx"
    code = (
        "import sys, paddle2onnx; program, weights, target = sys.argv[1:]\n"
        "paddle2onnx.export(program, weights, target, opset_version=17, optimize_tool='None', verbose=False)"
    )
    weights = program.with_suffix(".pdiparams")
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, program, weights, converted],
        env={**os.environ, "FLAGS_enable_pir_api": "0"},
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    ours = onnxruntime.InferenceSession(str(program.with_suffix(".onnx")))
    theirs = onnxruntime.InferenceSession(str(converted))
    manifest = Manifest.read(program.with_suffix(".manifest.json"))
    for batch in make_batches(manifest.config, manifest.head):
        for one, other in zip(ours.run(None, batch), theirs.run(None, batch), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
