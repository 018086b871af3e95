"""ONNX files after ONNX Runtime's own tools: fused operators, float16, a saved session, int8.

    python onnx_runtime_fused.py FOLDER_OF_TORCH_SCRIPT FOLDER

Tried with ONNX Runtime 1.32.0 and onnx 1.17.0.
"""

import collections
import shutil
import sys
from pathlib import Path

import answers
import onnx
import onnxruntime
import onnxruntime.quantization
import onnxruntime.transformers.fusion_options
import onnxruntime.transformers.optimizer

SOURCES = [
    "model-opset11",
    "model-eager",
    "model",
    "model-opset17-eager",
    "model-gelu",
    "model-relu",
    "model-gelu-opset11",
]
SOURCES += [
    "model-fixed-opset11",
    "model-groups",
    "sequence-classification-eager",
    "masked-lm-eager",
    "question-answering-eager",
]


def fuse(
    source: Path,
    file: Path,
    *,
    float16: bool = False,
    approximate_gelu: bool = False,
    level: int | None = None,
) -> None:
    """What `python -m onnxruntime.transformers.optimizer --model_type bert` does."""
    options = onnxruntime.transformers.fusion_options.FusionOptions("bert")
    options.enable_gelu_approximation = approximate_gelu
    optimizer = onnxruntime.transformers.optimizer.optimize_model(
        str(source),
        model_type="bert",
        num_heads=2,
        hidden_size=24,
        optimization_options=options,
        opt_level=level,
    )
    if float16:
        optimizer.convert_float_to_float16(keep_io_types=True)
    optimizer.save_model_to_file(str(file))


def save_session(source: Path, file: Path, level: str) -> None:
    """The graph as a session optimizes it, saved by optimized_model_filepath."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = str(file)
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def quantize(source: Path, file: Path) -> None:
    onnxruntime.quantization.quantize_dynamic(str(source), str(file))


CASES = {f"fused-{source}": (source, fuse) for source in SOURCES}
CASES |= {
    "fused-level0-model-eager": ("model-eager", lambda a, b: fuse(a, b, level=0)),
    "fused-level99-model-eager": ("model-eager", lambda a, b: fuse(a, b, level=99)),
    "fused-fp16-model-eager": ("model-eager", lambda a, b: fuse(a, b, float16=True)),
    "fused-fp16-sequence-classification-eager": (
        "sequence-classification-eager",
        lambda a, b: fuse(a, b, float16=True),
    ),
    "fused-fast-gelu-model-gelu": ("model-gelu", lambda a, b: fuse(a, b, approximate_gelu=True)),
    "session-basic-model": ("model", lambda a, b: save_session(a, b, "BASIC")),
    "session-extended-model": ("model", lambda a, b: save_session(a, b, "EXTENDED")),
    "session-all-model": ("model", lambda a, b: save_session(a, b, "ALL")),
    "session-extended-model-eager": ("model-eager", lambda a, b: save_session(a, b, "EXTENDED")),
    "session-extended-model-gelu-opset11": (
        "model-gelu-opset11",
        lambda a, b: save_session(a, b, "EXTENDED"),
    ),
    "session-extended-sequence-classification": (
        "sequence-classification",
        lambda a, b: save_session(a, b, "EXTENDED"),
    ),
    "int8-model": ("model", quantize),
    "int8-sequence-classification": ("sequence-classification", quantize),
}


def main(sources: Path, target: Path, chosen: list[str]) -> None:
    for case, (source, change) in CASES.items():
        if not chosen or case in chosen:
            folder = target / case
            folder.mkdir(parents=True, exist_ok=True)
            try:
                change(sources / source / "model.onnx", folder / "model.onnx")
                for file in ("source.json", "source.npz"):
                    shutil.copyfile(sources / source / file, folder / file)
                fixed = (1, 16) if "fixed" in source else None
                answers.answer_with_onnxruntime(folder / "model.onnx", answers.batches(fixed=fixed))
                graph = onnx.load(folder / "model.onnx").graph
                operators = collections.Counter(
                    f"{node.domain}.{node.op_type}" for node in graph.node if node.domain
                )
                print(case, (folder / "model.onnx").stat().st_size, dict(operators), flush=True)
            except Exception as error:  # one case that a tool refuses must not stop the others
                print(case, "FAILED", repr(error)[:600], flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
