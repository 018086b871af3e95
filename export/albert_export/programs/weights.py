"""The weights of a program, as tensors of ours."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.artifact.tasks import Head

from ..checkpoint.weight_files import update_digest
from ..checkpoint.weights import Loaded, Tensors
from .albert import Albert, take_albert
from .program_file import read_program

if TYPE_CHECKING:
    from hashlib import _Hash as Digest


@dataclass(frozen=True)
class ProgramWeights:
    """The tensors of a program. ``files``: the program, then its weights'; ``task``: the one taken."""

    files: tuple[Path, ...]
    task: str

    def origin(self, sha256: str) -> dict[str, object]:
        """The manifest's ``weights_origin``; ``sha256`` is that of all files, one after another."""
        names = [path.name.encode(errors="replace").decode() for path in self.files]
        return {"kind": "program", "format": self.files[0].suffix[1:], "files": names, "sha256": sha256}

    def load(self, config: AlbertConfig, head: Head, digest: "Digest | None" = None) -> Loaded:
        """Every tensor of the encoder and the head as float32, one at a time; see CheckpointWeights.load."""
        if digest is not None:
            for path in self.files:
                update_digest(digest, path)
        albert = take_albert(read_program(self.files[0]), self.task)
        return _tensors(albert, config, head), []


def _tensors(albert: Albert, config: AlbertConfig, head: Head) -> Tensors:
    for name in (*config.tensor_shapes(), *head.tensor_shapes(config)):
        yield name, np.ascontiguousarray(albert.tensors[name], np.float32)
