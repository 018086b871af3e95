"""ONNX Runtime's CUDA provider."""

from collections.abc import Mapping, Sequence
from importlib import metadata
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact.artifact import Artifact
from ..artifact.tasks import INPUTS
from ..batch.on_gpu import gpu_arrays
from ..batch.pack import pack
from ..batch.packed import Int64, ModelLimits
from ..errors import BackendError, InputError
from .base import Options, Outputs, import_package, one_line
from .nvidia import describe, find_gpu
from .onnxruntime import OnnxRuntimeBackend, Providers, require_graph
from .padded import OutputCollector

EXTRA = "cuda"
INSTALL = f"pip install 'albert-runtime[{EXTRA}]'"
CUDA: tuple[str, dict[str, str]] = ("CUDAExecutionProvider", {"device_id": "0"})
# A GPU wants many; so many take 2 GB of attention scores in ALBERT-xxlarge at 512 columns.
TOKENS_PER_PASS = 16384


class CudaBackend(OnnxRuntimeBackend):
    """One session on the first visible GPU; outputs are copied from it once, when a pass is done."""

    name = "cuda"
    tokens_per_pass = TOKENS_PER_PASS

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
        self._values = ort.OrtValue
        wanted, found = providers[0][0], self._session.get_providers()
        if wanted not in found:
            offered = "{}.{}".format(*self.gpu.cuda)
            raise BackendError(
                f"ONNX Runtime could not load its {wanted} on {self.gpu.name}: "
                "a CUDA library is missing, of another version, "
                f"or too new for the driver's CUDA {offered}; {INSTALL}"
            )

    def forward(self, inputs: dict[str, Int64], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """See PaddedBackend.forward."""
        return self._bound(inputs, {}, outputs)

    def run_on_gpu(self, batch: Mapping[Any, Any], limits: ModelLimits, outputs: Sequence[str]) -> Outputs:
        """See Backend.run, for int64 arrays [B, T] that lie on the GPU: the graph reads them there.

        Only the mask is copied from it, for the zeros at masked positions. Ids are not checked.
        """
        self.process.check()
        arrays = gpu_arrays(batch)
        mask = self._value("attention_mask", arrays["attention_mask"]).numpy()
        packed = pack({"input_ids": mask, "attention_mask": mask}, limits, choices=mask.ndim == 3)
        collector, choices = OutputCollector(packed, None), packed.choices or 1
        width = mask.shape[-1]
        for start, stop in self.passes(packed, outputs, width):
            rows = slice(start // choices, stop // choices)
            on_gpu = {
                name: self._value(name, values[rows], mask[rows].shape) for name, values in arrays.items()
            }
            on_cpu = {name: np.zeros(mask[rows].shape, np.int64) for name in INPUTS if name not in arrays}
            collector.add(
                self._bound(on_cpu, on_gpu, outputs), outputs, packed.rows(start, stop), start, width
            )
        return collector.outputs

    def _value(self, name: str, array: Any, shape: tuple[int, ...] | None = None) -> Any:
        """An array on the GPU as ONNX Runtime's, not copied."""
        if not hasattr(self._values, "from_dlpack"):
            raise BackendError(
                f"onnxruntime {self._version} reads no arrays on a GPU (DLPack); "
                "update it, or pass them from the CPU"
            )
        try:
            value = self._values.from_dlpack(array)
        except Exception as error:
            raise InputError(f"{name} cannot be read where it is, on the GPU ({one_line(error)})") from None
        if value.data_type() != "tensor(int64)":
            raise InputError(f"{name} on a GPU must hold int64, not {value.data_type()}")
        if shape is not None and tuple(value.shape()) != shape:
            raise InputError(
                f"{name} has shape {value.shape()}, attention_mask has {list(shape)}; they must be equal"
            )
        return value

    def _bound(
        self, on_cpu: Mapping[str, Int64], on_gpu: Mapping[str, Any], outputs: Sequence[str]
    ) -> list[NDArray[Any]]:
        try:
            binding = self._session.io_binding()
            for name, values in on_cpu.items():
                binding.bind_cpu_input(name, values)
            for name, value in on_gpu.items():
                binding.bind_ortvalue_input(name, value)
            if on_gpu:
                # Whoever made them may still be at it, on a stream that ONNX Runtime's does not wait for.
                binding.synchronize_inputs()
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
