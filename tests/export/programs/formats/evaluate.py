"""Computes a graph as a whole, and compares it with what its file answers."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from albert_export.programs.formats.pdmodel_file import read_pdmodel
from albert_export.programs.formats.pir_file import read_pir
from albert_export.programs.graph import Graph
from albert_export.programs.operators import run_node

READERS = {".pdmodel": read_pdmodel, ".json": read_pir}


def read(program: Path) -> Graph:
    """The graph of a Paddle program of either format."""
    return READERS[program.suffix](program)


def program_of(folder: Path) -> Path:
    """The one program in a folder."""
    (program,) = [path for path in folder.iterdir() if path.suffix in READERS and path.stem != "source"]
    return program


def evaluate(graph: Graph, given: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs in order."""
    values = {"": None, **graph.constants, **{item.name: given[item.name] for item in graph.inputs}}
    for node in graph.nodes:
        results = run_node(node, tuple(values[name] for name in node.inputs))
        values.update(zip(node.outputs, results, strict=True))
    return [values[value] for _, value in graph.outputs]


def widened(graph: Graph) -> Graph:
    """The graph with float32 in the place of float16: the same weights, computed as runtimes on CPUs do."""
    constants = {
        name: array.astype(np.float32) if array.dtype == np.float16 else array
        for name, array in graph.constants.items()
    }
    nodes = [
        replace(node, attributes={"dtype": "float32"}) if node.attributes.get("dtype") == "float16" else node
        for node in graph.nodes
    ]
    return replace(graph, nodes=tuple(nodes), constants=constants)


def batches(io: Mapping[str, np.ndarray]) -> list[tuple[dict[str, np.ndarray], list[np.ndarray]]]:
    """The inputs by name and the outputs in order of each batch of io.npz: in/NAME/I and out/NAME/I."""
    found: dict[str, tuple[dict[str, np.ndarray], list[np.ndarray]]] = {}
    for key in io:
        kind, rest = key.split("/", 1)
        name, batch = rest.rsplit("/", 1)
        inputs, outputs = found.setdefault(batch, ({}, []))
        if kind == "in":
            inputs[name] = io[key]
        else:
            outputs.append(io[key])
    return list(found.values())


def check_answers(folder: Path) -> None:
    """Compare the program of a folder with its io.npz."""
    graph = read(program_of(folder))
    with np.load(folder / "io.npz") as io:
        cases = batches(io)
    for given, expected in cases:
        assert {item.name for item in graph.inputs} == given.keys()
        for item in graph.inputs:
            array = given[item.name]
            assert item.dtype == array.dtype
            assert all(size in (None, real) for size, real in zip(item.shape, array.shape, strict=True))
        for answer, values in zip(evaluate(graph, given), expected, strict=True):
            assert answer.dtype == values.dtype
            np.testing.assert_allclose(answer, values, rtol=1e-5, atol=2e-5)
