"""ONNX Runtime from STEM.onnx, which names its weights inside STEM.pdiparams, on the CPU unless told."""

import re
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from numpy.typing import NDArray

from ..artifact.artifact import Artifact
from ..batch.packed import Int64
from ..errors import BackendError, UnsupportedError
from .base import Options, OwnProcess, check_inputs, check_utf8, import_package, one_line
from .padded import PaddedBackend

OLDEST = (1, 21)
BROKEN = ((1, 24, 0), (1, 24, 1))
CPU = "CPUExecutionProvider"

# Execution providers in the order in which they may take a node, with their settings.
Providers = Sequence[tuple[str, Mapping[str, str]]]


class OnnxRuntimeBackend(PaddedBackend):
    """One session; ONNX Runtime lets any number of threads run it at once."""

    name = "onnxruntime"

    def __init__(self, artifact: Artifact, options: Options) -> None:
        """Load the graph; BackendError if it has none, or ONNX Runtime is missing, unfit or refuses it.

        UnsupportedError for bfloat16.
        """
        if artifact.manifest is not None and artifact.manifest.precision == "bf16":
            raise UnsupportedError(
                f"ONNX Runtime multiplies no bfloat16 on a CPU, which {artifact.stem}.onnx asks for; "
                "use backend='native', or export with --fp16 or in fp32"
            )
        require_graph(artifact)
        self.open(import_package("onnxruntime", "onnx"), artifact, options, [])

    def open(self, ort: ModuleType, artifact: Artifact, options: Options, providers: Providers) -> None:
        """Start the session; the CPU takes what the providers do not."""
        path = artifact.files["onnx"]
        self._version = usable_version(getattr(ort, "__version__", None))
        check_utf8(path, "ONNX Runtime")
        # ONNX Runtime reads both by their names, so whoever chose this backend checks that these still led to
        # the same files.
        artifact.verify_file("onnx")
        artifact.verify_file("weights")
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = options.num_threads
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 4  # errors arrive as exceptions, not on stderr too
        try:
            self._session = ort.InferenceSession(
                str(path), settings, providers=[*((name, dict(more)) for name, more in providers), CPU]
            )
        except Exception as error:
            raise BackendError(f"ONNX Runtime cannot load {path.name} ({one_line(error)})") from None
        check_inputs([item.name for item in self._session.get_inputs()], path.name)
        self.outputs = tuple(item.name for item in self._session.get_outputs())
        self._threads = options.num_threads
        self.process = OwnProcess("ONNX Runtime session")
        if artifact.manifest is not None:
            self.vocab_size = artifact.manifest.config.vocab_size

    def forward(self, inputs: dict[str, Int64], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """See PaddedBackend.forward."""
        try:
            results: list[NDArray[Any]] = self._session.run(list(outputs), inputs)
        except Exception as error:
            raise BackendError(f"ONNX Runtime failed on this batch ({one_line(error)})") from None
        return results

    def info(self) -> dict[str, object]:
        """See Backend.info."""
        return {"version": self._version, "num_threads": self._threads}


def require_graph(artifact: Artifact) -> None:
    """BackendError if the artifact has no ONNX graph."""
    if "onnx" not in artifact.files:
        raise BackendError(f"{artifact.stem} has no .onnx graph; export the model again")


def usable_version(version: object) -> str:
    """The version of ONNX Runtime; BackendError if it is not one to work with."""
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version) if isinstance(version, str) else None
    if match is None:
        raise BackendError("onnxruntime is installed in pieces; pip install --force-reinstall onnxruntime")
    numbers = tuple(int(part or 0) for part in match.groups())
    fix = "pip install 'onnxruntime>=1.21,!=1.24.0,!=1.24.1'"
    if numbers < OLDEST:
        raise BackendError(f"onnxruntime {version} copies the shared layer once per depth; {fix}")
    if numbers in BROKEN:
        raise BackendError(f"onnxruntime {version} misreads weights in an external file; {fix}")
    return match.group()
