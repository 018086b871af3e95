"""ONNX files that lie, and how they are refused."""

import time

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from albert_export.programs.albert import take_albert
from albert_export.programs.program_file import read_program
from albert_runtime.errors import AlbertError

ROWS = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "sequence"])
OUT = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
TABLE = numpy_helper.from_array(np.ones((4, 2), np.float32), "table")
LOOKUP = helper.make_node("Gather", ["table", "ids"], ["out"])
SECONDS = 5


def written(tmp_path, *nodes, inputs=(ROWS,), outputs=(OUT,), constants=(TABLE,), functions=()):
    """The path of a model; protobuf's own checks alone are passed."""
    graph = helper.make_graph([*(nodes or (LOOKUP,))], "graph", [*inputs], [*outputs], [*constants])
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    model = helper.make_model(graph, opset_imports=imports, functions=[*functions])
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def refused(path, words="."):
    began = time.process_time()
    with pytest.raises(AlbertError, match=words) as caught:
        take_albert(read_program(path), None)
    assert time.process_time() - began < SECONDS
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600 + len(str(path))


def ids_input(kind, *dims):
    return helper.make_tensor_value_info("ids", kind, dims)
