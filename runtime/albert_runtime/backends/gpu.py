"""Our engine on an NVIDIA GPU (``albert_runtime.gpu``): packed tokens, no padding, as the C++ engine."""

import os
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from ..artifact.artifact import Artifact
from ..artifact.config import AlbertConfig
from ..artifact.manifest import SUFFIX, Manifest
from ..batch.on_gpu import gpu_arrays
from ..batch.pack import pack
from ..batch.packed import Int32, ModelLimits, PackedBatch
from ..errors import AlbertError, BackendError, InputError
from .base import Options, Outputs, OwnProcess, import_package, one_line
from .engine_outputs import Wanted
from .nvidia import Gpu, describe, find_gpu
from .sentence_pooling import SentencePooler

if TYPE_CHECKING:  # both import torch
    from ..gpu.engine import GpuEngine

EXTRA = "gpu"
# Kernels in the interpreter, on the CPU; see Triton's documentation.
_INTERPRET = "TRITON_INTERPRET"
_OLDEST = (8, 0)  # bfloat16 and asynchronous copies
_MOST_HEAD_COLUMNS = 256
_MOST_INT8_COLUMNS = (2**31 - 1) // 127**2  # their products could overflow a sum

_engines: "WeakValueDictionary[tuple[object, ...], GpuEngine]" = WeakValueDictionary()
_lock = threading.Lock()


class GpuBackend:
    """Runs packed tokens on the first visible GPU. Predictors of one artifact and precision share it."""

    name = "gpu"
    tokens_per_pass = 16384  # enough to fill any GPU, for requests that the scheduler joins

    def __init__(self, artifact: Artifact, options: Options) -> None:
        """Load the weights, once the sha256 of their file is found to be the manifest's.

        BackendError if there is no GPU of compute capability 8.0 or later, no torch that can use it, too
        little memory, or a model that the kernels are not made for. Where TRITON_INTERPRET=1 is set, a
        backend that is asked for by name runs on the CPU in Triton's interpreter: for tests, and very slow.
        """
        if artifact.manifest is None:
            raise BackendError(f"the GPU engine needs {artifact.stem}{SUFFIX}; export the model again")
        _check_sizes(artifact.manifest.config, options.precision)
        self.gpu = _find(interpreted=os.environ.get(_INTERPRET) == "1", named=options.named)
        self._torch = _torch(self.gpu)
        self._manifest = artifact.manifest
        self._precision = options.precision
        self.pooler = SentencePooler.of(artifact)
        self.outputs = artifact.manifest.outputs
        self._process = OwnProcess("GPU")
        with _errors(self._torch, f"loading {artifact.stem}"):
            self._engine = _shared_engine(artifact, artifact.manifest, options.precision)

    def run(self, batch: PackedBatch, outputs: Sequence[str], score_tokens: Int32 | None = None) -> Outputs:
        """See Backend.run. What no output needs is not computed; see NativeBackend.run."""
        head = self._manifest.head
        with self._errors(batch):
            results = self._engine.run(batch, Wanted.of(outputs, head), score_tokens)
        return results.named(outputs, head, batch, score_tokens, self.pooler)

    def run_on_gpu(self, batch: Mapping[Any, Any], limits: ModelLimits, outputs: Sequence[str]) -> Outputs:
        """See Backend.run, for integer arrays [B, T] that lie on the GPU and are read there.

        The mask is copied to the host, which packs. InputError names the first id that is out of range.
        """
        self._process.check()
        head = self._manifest.head
        with _errors(self._torch, "arrays on the GPU"), self._engine.device.reading():
            arrays = self._tensors(gpu_arrays(batch))
            mask = arrays.pop("attention_mask").cpu().numpy()
        packed = pack({"input_ids": mask, "attention_mask": mask}, limits, choices=mask.ndim == 3)
        ids = {name: values.reshape(packed.shape) for name, values in arrays.items()}
        with self._errors(packed):
            results = self._engine.run(packed, Wanted.of(outputs, head), on_gpu=ids)
        return results.named(outputs, head, packed, None, self.pooler)

    def info(self) -> dict[str, object]:
        """See Backend.info."""
        on: dict[str, object] = {"gpu": None} if self.gpu is None else describe(self.gpu)
        return {
            **on,
            "computes": self._precision,
            "weight_bytes": self._engine.model.weights.bytes,
            "graphs": len(self._engine.graphs),
            "torch": self._torch.__version__,
        }

    def _tensors(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """The arrays as tensors, whatever made them; nothing is copied."""
        tensors: dict[str, Any] = {}
        for name, array in arrays.items():
            try:
                tensor = self._torch.from_dlpack(array)  # current stream waits for whoever still writes to it
            except Exception as error:
                raise InputError(
                    f"{name} cannot be read where it is, on the GPU ({one_line(error)})"
                ) from None
            if tensor.dtype not in (self._torch.int64, self._torch.int32):
                raise InputError(f"{name} on a GPU must hold int64 or int32, not {tensor.dtype}")
            tensors[name] = tensor
        shape = tuple(tensors["attention_mask"].shape)
        for name, tensor in tensors.items():
            if tuple(tensor.shape) != shape:
                raise InputError(
                    f"{name} has shape {list(tensor.shape)}, attention_mask has {list(shape)}; "
                    "they must be equal"
                )
        return tensors

    @contextmanager
    def _errors(self, batch: PackedBatch) -> Iterator[None]:
        """As ``_errors`` for a batch; what graphs hold is given up where memory ran out."""
        self._process.check()
        try:
            with _errors(self._torch, f"a batch of {batch.tokens} tokens", "run fewer or shorter rows"):
                yield
        except BackendError:
            self._engine.forget_graphs()
            raise


def _find(*, interpreted: bool, named: bool) -> Gpu | None:
    """The GPU to run on; None: there is none, and kernels are interpreted."""
    if interpreted and named:
        return None
    gpu = find_gpu()
    if interpreted:
        raise BackendError(f"{_INTERPRET}=1 is set, so kernels would run on the CPU; unset it")
    if gpu.capability < _OLDEST:
        raise BackendError(
            "the GPU engine needs compute capability {}.{} (A100) or later, ".format(*_OLDEST)
            + "{} has {}.{}; use backend='cuda'".format(gpu.name, *gpu.capability)
        )
    return gpu


def _torch(gpu: Gpu | None) -> ModuleType:
    """PyTorch, able to use that GPU."""
    torch = import_package("torch", EXTRA)
    import_package("triton", EXTRA)
    if gpu is None:
        return torch
    if torch.version.cuda is None:
        raise BackendError(
            f"torch {torch.__version__} is a build without CUDA; pip uninstall -y torch, then "
            f"pip install 'albert-runtime[{EXTRA}]'"
        )
    try:
        torch.cuda.init()
    except Exception as error:
        raise BackendError(
            f"torch {torch.__version__} for CUDA {torch.version.cuda} cannot use {gpu.name}, whose driver "
            f"is for {gpu.cuda[0]}.{gpu.cuda[1]} ({one_line(error)}); update the driver or change torch"
        ) from None
    return torch


def _check_sizes(config: AlbertConfig, precision: str) -> None:
    if config.head_size > _MOST_HEAD_COLUMNS:
        raise BackendError(
            f"the model's attention heads have {config.head_size} columns, the GPU engine takes at most "
            f"{_MOST_HEAD_COLUMNS}; use backend='native' or 'cuda'"
        )
    inner = max(config.hidden_size, config.intermediate_size)
    if precision == "int8" and inner > _MOST_INT8_COLUMNS:
        raise BackendError(f"int8 sums of {inner} products could overflow; use bf16")


def _shared_engine(artifact: Artifact, manifest: Manifest, precision: str) -> "GpuEngine":
    from ..gpu.engine import GpuEngine  # noqa: PLC0415  (imports torch)

    key = (manifest.files["weights"].sha256, precision, manifest.config, manifest.head, manifest.tensors)
    with _lock:
        engine = _engines.get(key)
        if engine is None:
            artifact.verify_file("weights")
            engine = GpuEngine(artifact.files["weights"], manifest, precision)
            artifact.check_unchanged()  # others may share it from now on
            _engines[key] = engine
    return engine


@contextmanager
def _errors(torch: ModuleType, what: str, remedy: str = "") -> Iterator[None]:
    """Whatever torch, Triton or the driver raise, as a BackendError; the process lives on."""
    try:
        yield
    except AlbertError:
        raise
    except torch.OutOfMemoryError as error:
        # Else the pass's tensors would live as long as the error, and whoever tries again would lack them.
        traceback.clear_frames(error.__traceback__)
        torch.cuda.empty_cache()
        free, total = (size / 2**20 for size in torch.cuda.mem_get_info())
        advice = remedy or "use a smaller precision"
        raise BackendError(
            f"out of GPU memory on {what}: {free:.0f} of {total:.0f} MiB are free ({one_line(error)}); "
            f"{advice}, or stop what else uses the GPU"
        ) from None
    except Exception as error:
        traceback.clear_frames(error.__traceback__)
        raise BackendError(f"the GPU engine failed on {what} ({one_line(error)})") from None
