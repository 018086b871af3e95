"""Stored programs: which there are, and one of them with what it was made of and what it answers."""

import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from albert_export.checkpoint.stored_tensor import StoredTensor
from albert_export.checkpoint.tensor_names import by_model_name
from albert_export.programs.albert import Albert, take_albert
from albert_export.programs.graph import Graph
from albert_export.programs.program_file import find_program, read_program

from .conftest import FILES


def stored(archive: str, *tools: str) -> list[str]:
    """The names TOOL/NAME of an archive's programs; of all its tools, or of these."""
    with tarfile.open(FILES / f"{archive}.tar.xz") as file:
        names = {"/".join(name.split("/")[:2]) for name in file.getnames()}
    return sorted(name for name in names if not tools or name.split("/")[0] in tools)


@dataclass(frozen=True)
class Case:
    """A stored program that is an ALBERT."""

    folder: Path

    @cached_property
    def program(self) -> Path:
        """Its file."""
        path = find_program(self.folder)
        assert path is not None
        return path

    @cached_property
    def graph(self) -> Graph:
        """As it is read."""
        return read_program(self.program)

    @cached_property
    def albert(self) -> Albert:
        """What is found in it."""
        return take_albert(self.graph, None)

    @cached_property
    def library(self) -> str:
        """That of the model it was made of."""
        return "paddlenlp" if "paddle" in self.folder.parent.name else "huggingface"

    @cached_property
    def config(self) -> Mapping[str, object]:
        """The config of the model it was made of."""
        return json.loads((self.program.parent / "source.json").read_text())

    @cached_property
    def tensors(self) -> dict[str, np.ndarray]:
        """The tensors of the model it was made of, in our names and layouts."""
        path = self.program.parent / "source.npz"
        with np.load(path) as file:
            arrays = dict(file)
        tensors = {
            name: StoredTensor(path, name, values.shape, str(values.dtype), lambda values=values: values)
            for name, values in arrays.items()
        }
        placed, _ = by_model_name(tensors, self.library)
        return {name: tensor.values() for name, tensor in placed.items()}

    @cached_property
    def batches(self) -> list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
        """Inputs and outputs of each batch, by the program's names; none of a program that cannot run."""
        found: dict[str, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]] = {}
        path = self.program.parent / "io.npz"
        if not path.exists():
            return []
        with np.load(path) as arrays:
            for key, values in arrays.items():
                kind, rest = key.split("/", 1)
                name, batch = rest.rsplit("/", 1)
                found.setdefault(batch, ({}, {}))[kind == "out"][name] = values
        return list(found.values())
