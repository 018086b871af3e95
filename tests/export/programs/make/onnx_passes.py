"""ONNX files after passes that people run over them: simplified, in float16, with external data.

    python onnx_passes.py FOLDER_OF_TORCH_SCRIPT FOLDER [CASE...]

Tried with onnx 1.17.0, ONNX Runtime 1.32.0, onnxsim 0.8.1, onnxslim 0.1.98, onnxoptimizer 0.3.13.
"""

import shutil
import sys
from pathlib import Path

import answers
import onnx
import onnxoptimizer
import onnxsim
import onnxslim
from onnx import version_converter
from onnxruntime.transformers import float16


def simplify(program: onnx.ModelProto) -> onnx.ModelProto:
    return onnxsim.simplify(program)[0]


def simplify_fixed(program: onnx.ModelProto) -> onnx.ModelProto:
    return onnxsim.simplify(
        program, overwrite_input_shapes={value.name: [1, 16] for value in program.graph.input}
    )[0]


def half(program: onnx.ModelProto) -> onnx.ModelProto:
    return float16.convert_float_to_float16(program)


def half_inside(program: onnx.ModelProto) -> onnx.ModelProto:
    return float16.convert_float_to_float16(program, keep_io_types=True)


def constants_as_nodes(program: onnx.ModelProto) -> onnx.ModelProto:
    """Weights as Constant nodes, as some converters write them."""
    nodes = [
        onnx.helper.make_node("Constant", [], [value.name], value=value)
        for value in program.graph.initializer
    ]
    del program.graph.initializer[:]
    rest = list(program.graph.node)
    del program.graph.node[:]
    program.graph.node.extend([*nodes, *rest])
    return program


def weights_as_inputs(program: onnx.ModelProto) -> onnx.ModelProto:
    """Weights are inputs of the graph, too, as before IR version 4 (keep_initializers_as_inputs)."""
    for value in program.graph.initializer:
        program.graph.input.append(
            onnx.helper.make_tensor_value_info(value.name, value.data_type, value.dims)
        )
    return program


def weights_as_floats(program: onnx.ModelProto) -> onnx.ModelProto:
    """Weights in float_data and int64_data in place of raw_data."""
    for value in program.graph.initializer:
        array = onnx.numpy_helper.to_array(value)
        value.CopyFrom(
            onnx.helper.make_tensor(value.name, value.data_type, value.dims, array.ravel().tolist())
        )
    return program


PASSES = {
    "onnxsim": simplify,
    "onnxsim-fixed": simplify_fixed,
    "onnxslim": onnxslim.slim,
    "onnxoptimizer": onnxoptimizer.optimize,
    "opset18": lambda program: version_converter.convert_version(program, 18),
    "half": half,
    "half-inside": half_inside,
    "external": lambda program: program,
    "external-each": lambda program: program,  # a file for each weight
    "constants-as-nodes": constants_as_nodes,
    "weights-as-inputs": weights_as_inputs,
    "weights-as-floats": weights_as_floats,
}
CASES = {f"{change}-model": ("model", change) for change in PASSES}
CASES |= {f"{change}-model-eager": ("model-eager", change) for change in ("onnxsim", "onnxslim")}
CASES |= {
    f"{change}-model-opset11": ("model-opset11", change)
    for change in ("onnxsim", "onnxslim", "onnxoptimizer")
}
CASES |= {
    f"{change}-sequence-classification": ("sequence-classification", change)
    for change in ("onnxsim", "half", "external")
}
CASES |= {f"{change}-masked-lm": ("masked-lm", change) for change in ("onnxsim", "onnxslim", "half-inside")}


def write(program: onnx.ModelProto, file: Path, change: str) -> None:
    one = change == "external"
    options = (
        {"save_as_external_data": True, "size_threshold": 0, "all_tensors_to_one_file": one}
        if "external" in change
        else {}
    )
    onnx.save(program, str(file), **options, **({"location": "model.onnx_data"} if one else {}))


def main(sources: Path, target: Path, chosen: list[str]) -> None:
    for case, (source, change) in CASES.items():
        if not chosen or case in chosen:
            shutil.rmtree(target / case, ignore_errors=True)
            folder = target / case
            folder.mkdir(parents=True)
            try:
                write(
                    PASSES[change](onnx.load(sources / source / "model.onnx")), folder / "model.onnx", change
                )
                for file in ("source.json", "source.npz"):
                    shutil.copyfile(sources / source / file, folder / file)
                answers.answer_with_onnxruntime(
                    folder / "model.onnx", answers.batches(fixed=(1, 16) if "fixed" in change else None)
                )
                print(case, (folder / "model.onnx").stat().st_size, flush=True)
            except Exception as error:  # one case that a tool refuses must not stop the others
                print(case, "FAILED", repr(error)[:600], flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
