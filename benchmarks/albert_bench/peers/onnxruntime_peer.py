"""ONNX Runtime: the exported graph or the one its own optimizer fuses, whichever is faster; also in int8."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from albert_runtime import AlbertConfig
from albert_runtime.artifact import Artifact

from ..workload import uniform
from .base import INPUTS, Answer, Ids, Job, padded

_CHOICE = "choice.json"
_TRIALS = 5


class Session:
    """One session, which any number of threads may run."""

    def __init__(self, graph: Path, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        self._session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self._outputs = [item.name for item in self._session.get_outputs()]

    def run(self, rows: Sequence[Ids]) -> Answer:
        """See Model.run."""
        feed = dict(zip(INPUTS, padded(rows), strict=True))
        return dict(zip(self._outputs, self._session.run(self._outputs, feed), strict=True))


def build(job: Job) -> Session:
    """A session on the graph that ``prepare`` chose, or on the exported graph if nothing was prepared."""
    choice = _choice(job)
    graph = Path(choice["graph"]) if choice else Artifact.open(job.artifact).files["onnx"]
    return Session(graph, 1 if job.streams else job.threads)


def prepare(job: Job) -> None:
    """Fuse the graph, quantize for int8, and note which graph is faster on this machine."""
    artifact = Artifact.open(job.artifact)
    assert artifact.manifest is not None
    config = artifact.manifest.config
    graphs = {"exported": artifact.files["onnx"]}
    graphs["fused"] = _fuse(graphs["exported"], config, job.folder)
    if job.contender.precision == "int8":
        graphs = {name: _quantize(name, graph, job.folder) for name, graph in graphs.items()}
    times = _times(graphs, config, job.threads)
    fastest = min(times, key=lambda name: times[name])
    choice = {"graph": str(graphs[fastest].absolute()), "chosen": fastest, "seconds": times}
    (job.folder / _CHOICE).write_text(json.dumps(choice), encoding="utf-8")


def _fuse(graph: Path, config: AlbertConfig, folder: Path) -> Path:
    """The graph of onnxruntime.transformers: Attention, SkipLayerNormalization and BiasGelu nodes."""
    from onnxruntime.transformers.optimizer import optimize_model  # noqa: PLC0415  (slow; int8 and fp32 only)

    readable = folder / "readable.onnx"
    _make_readable(graph, readable)
    model = optimize_model(
        str(readable),
        model_type="bert",
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
        opt_level=0,
    )
    target = folder / "fused.onnx"
    model.save_model_to_file(str(target), use_external_data_format=True)
    return target


def _make_readable(graph: Path, target: Path) -> None:
    """Rewrite the graph in the steps that the optimizer recognizes.

    It fuses attention only if the mask is computed in this order. It takes every Gelu for the erf form, so
    the tanh form must become FastGelu first.
    """
    model = onnx.load(graph)
    nodes = model.graph.node
    for node in nodes:
        if node.op_type == "Gelu" and node.attribute[0].s == b"tanh":
            node.op_type, node.domain = "FastGelu", "com.microsoft"
            del node.attribute[:]
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    old = [node for node in nodes if node.name.startswith("mask/")]
    where = list(nodes).index(old[0])
    cast, sub, mul, last = old
    axes = {axis: f"mask/axis{axis}" for axis in (1, 2)}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array([axis], np.int64), name) for axis, name in axes.items()
    )
    steps = [
        helper.make_node("Unsqueeze", [cast.input[0], axes[1]], ["mask/rank3"]),
        helper.make_node("Unsqueeze", ["mask/rank3", axes[2]], ["mask/rank4"]),
        helper.make_node("Cast", ["mask/rank4"], ["mask/rank4_float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", [sub.input[0], "mask/rank4_float"], ["mask/rank4_inverted"]),
        helper.make_node("Mul", ["mask/rank4_inverted", mul.input[1]], [last.output[0]]),
    ]
    for node in old:
        nodes.remove(node)
    for step in reversed(steps):
        nodes.insert(where, step)
    onnx.save(model, target, save_as_external_data=True, location=f"{target.name}.data")


def _quantize(name: str, graph: Path, folder: Path) -> Path:
    """Quantize weights to int8 and activations at run time.

    Without the pre-processing, shared weights would be missed.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    pre, target = folder / f"{name}.pre.onnx", folder / f"{name}.int8.onnx"
    quant_pre_process(str(graph), str(pre), skip_symbolic_shape=True, save_as_external_data=True)
    # The output types of fused nodes cannot be inferred; all are float.
    quantize_dynamic(
        str(pre),
        str(target),
        weight_type=QuantType.QInt8,
        use_external_data_format=True,
        extra_options={"DefaultTensorType": TensorProto.FLOAT},
    )
    return target


def _times(graphs: dict[str, Path], config: AlbertConfig, threads: int) -> dict[str, float]:
    """Median seconds of each graph, timed turn by turn."""
    rows = uniform(4, min(128, config.max_position_embeddings)).rows(config)
    sessions = {name: Session(graph, threads) for name, graph in graphs.items()}
    taken: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(_TRIALS + 1):
        for name, session in sessions.items():
            start = time.perf_counter()
            session.run(rows)
            taken[name].append(time.perf_counter() - start)
    return {name: float(median(np.array(seconds[1:]))) for name, seconds in taken.items()}


def notes(job: Job) -> dict[str, Any]:
    """Which graph ``prepare`` chose, and the seconds of each."""
    choice = _choice(job)
    return {"graph": choice.get("chosen", "exported"), "graph_seconds": choice.get("seconds", {})}


def _choice(job: Job) -> dict[str, Any]:
    path = job.folder / _CHOICE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
