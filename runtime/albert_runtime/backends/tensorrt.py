"""ONNX Runtime's TensorRT provider."""

from dataclasses import asdict

from ..artifact.artifact import Artifact
from ..artifact.manifest import Manifest
from ..artifact.tasks import INPUTS
from ..errors import BackendError
from .base import Options, import_package
from .cuda import CUDA, CudaBackend, gpu_runtime
from .nvidia import find_gpu
from .onnxruntime import require_graph, usable_version
from .tensorrt_engine import EngineFolder, Profile, tensorrt_version

PROVIDER = "TensorrtExecutionProvider"
EXTRA = "tensorrt"


class TensorRtBackend(CudaBackend):
    """One session whose engine takes the shapes of its profile."""

    name = "tensorrt"

    def __init__(self, artifact: Artifact, options: Options) -> None:
        """Load the built engine, or build and check one where that is allowed.

        BackendError if there is no GPU, no TensorRT, no engine that may be used, or if the check fails.
        """
        require_graph(artifact)
        manifest = artifact.manifest
        if manifest is None:
            raise BackendError(f"TensorRT needs the manifest of {artifact.stem}; export the model again")
        self.gpu = find_gpu()
        ort = gpu_runtime(PROVIDER)
        import_package("tensorrt", EXTRA)  # loads libnvinfer, which the provider does not find by itself
        self.profile = Profile.of(manifest, options)
        self.max_rows = self.profile.rows
        versions = {"onnxruntime": usable_version(ort.__version__), "tensorrt": tensorrt_version()}
        self.folder = EngineFolder(manifest, "onnx", self.gpu, versions, self.profile)
        self.folder.prepare(may_build=options.named)
        self.open_on_gpu(ort, artifact, options, [(PROVIDER, self.settings(manifest)), CUDA])
        self.folder.admit(self, artifact, options)

    def settings(self, manifest: Manifest) -> dict[str, str]:
        """The provider's options."""
        folder = str(self.folder.path)
        return {
            **CUDA[1],
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": folder,
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": folder,
            # fp16 for what int8 leaves; an fp32 artifact is not narrowed behind its owner's back.
            "trt_fp16_enable": str(manifest.precision in ("fp16", "int8")),
            "trt_bf16_enable": str(manifest.precision == "bf16"),
            "trt_int8_enable": str(manifest.precision == "int8"),
            **{
                f"trt_profile_{which}_shapes": ",".join(
                    f"{name}:{'x'.join(map(str, shape))}" for name in INPUTS
                )
                for which, shape in self.profile.shapes().items()
            },
        }

    def padded_width(self, width: int) -> int:
        """See PaddedBackend.padded_width."""
        return self.profile.width(width)

    def fit(self, width: int, choices: int | None) -> None:
        """See PaddedBackend.fit."""
        self.profile.fit(width, choices)

    def info(self) -> dict[str, object]:
        """See Backend.info."""
        return {**super().info(), "profile": asdict(self.profile), "engine_folder": str(self.folder.path)}
