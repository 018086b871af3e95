"""ONNX Runtime's CUDA provider."""

from collections.abc import Sequence
from importlib import metadata
from types import ModuleType
from typing import Any

from numpy.typing import NDArray

from ..artifact import Artifact
from ..batch import Int64
from ..errors import BackendError
from .base import Options, import_package, one_line
from .gpu import Gpu, find_gpu
from .onnxruntime import OnnxRuntimeBackend, Providers, require_graph

EXTRA = "gpu"
INSTALL = f"pip install 'albert-runtime[{EXTRA}]'"
CUDA: tuple[str, dict[str, str]] = ("CUDAExecutionProvider", {"device_id": "0"})


class CudaBackend(OnnxRuntimeBackend):
    """One session on the first visible GPU; outputs are copied from it once, when a pass is done."""

    name = "cuda"
    # A GPU wants many; so many take 2 GB of attention scores in ALBERT-xxlarge at 512 columns.
    tokens_per_pass = 16384

    def __init__(self, artifact: Artifact, options: Options) -> None:
        """Load the graph onto the GPU; BackendError if there is none, or no ONNX Runtime that can use it."""
        require_graph(artifact)
        self.gpu = find_gpu()
        self.open_on_gpu(gpu_runtime(CUDA[0]), artifact, options, [CUDA])

    def open_on_gpu(
        self, ort: ModuleType, artifact: Artifact, options: Options, providers: Providers
    ) -> None:
        """As ``open``, but refused where ONNX Runtime would quietly take the next provider."""
        self.open(ort, artifact, options, providers)
        wanted, found = providers[0][0], self._session.get_providers()
        if wanted not in found:
            raise BackendError(
                f"ONNX Runtime could not load its {wanted} on {self.gpu.name}: "
                f"a CUDA library is missing or of another version; {INSTALL}"
            )

    def forward(self, inputs: dict[str, Int64], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """See PaddedBackend.forward."""
        try:
            binding = self._session.io_binding()
            for name, values in inputs.items():
                binding.bind_cpu_input(name, values)
            for name in outputs:
                binding.bind_output(name, "cuda")
            self._session.run_with_iobinding(binding)
            results: list[NDArray[Any]] = binding.copy_outputs_to_cpu()
        except Exception as error:
            raise BackendError(f"ONNX Runtime failed on this batch ({one_line(error)})") from None
        return results

    def info(self) -> dict[str, object]:
        """See Backend.info."""
        return {**super().info(), **describe(self.gpu)}


def describe(gpu: Gpu) -> dict[str, object]:
    """A GPU, ready for JSON."""
    return {"gpu": gpu.name, "capability": "{}.{}".format(*gpu.capability)}


def gpu_runtime(provider: str) -> ModuleType:
    """ONNX Runtime, if it is a build with that provider; else BackendError with the remedy."""
    ort = import_package("onnxruntime", EXTRA)
    if provider not in ort.get_available_providers():
        if _installed("onnxruntime") and _installed("onnxruntime-gpu"):
            raise BackendError(
                "onnxruntime and onnxruntime-gpu are both installed and overwrite each other; "
                f"pip uninstall -y onnxruntime onnxruntime-gpu, then {INSTALL}"
            )
        raise BackendError(
            f"the installed onnxruntime has no {provider}; pip uninstall -y onnxruntime, then {INSTALL}"
        )
    # CUDA and cuDNN may come as packages, where the dynamic linker does not look.
    preload = getattr(ort, "preload_dlls", None)
    if preload is not None:
        preload()
    return ort


def _installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
