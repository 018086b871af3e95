"""Paddle Inference on a GPU, with TensorRT where the installed Paddle has it."""

import logging
from pathlib import Path
from types import ModuleType
from typing import Any

from ..artifact.artifact import Artifact
from ..artifact.tasks import INPUTS
from ..errors import BackendError
from .base import Options
from .cuda import TOKENS_PER_PASS
from .nvidia import describe, find_gpu
from .paddle import PaddleBackend
from .tensorrt_engine import EngineFolder, Profile

_log = logging.getLogger("albert_runtime")

_POOL_MEGABYTES = 256  # to begin with; it grows
_WORKSPACE = 2**30
_LEAST_OPERATORS = 3  # Paddle's default: smaller parts stay with Paddle


class PaddleGpuBackend(PaddleBackend):
    """Paddle's kernels on the first visible GPU, or a TensorRT engine kept and checked as tensorrt's are.

    Paddle Inference gives TensorRT programs of the .pdmodel format only.
    """

    tokens_per_pass = TOKENS_PER_PASS
    _profile: Profile | None = None
    _folder: EngineFolder | None = None

    def __init__(self, artifact: Artifact, options: Options) -> None:
        """As PaddleBackend; BackendError also if there is no GPU, or no engine that may be used."""
        self.gpu = find_gpu()
        super().__init__(artifact, options)
        if self._folder is not None:
            self._folder.admit(self, artifact, options)

    def check_precision(self, artifact: Artifact, program: Path) -> None:
        """See PaddleBackend.check_precision: a GPU computes all of them."""

    def configure(
        self, config: Any, paddle: ModuleType, inference: ModuleType, artifact: Artifact, options: Options
    ) -> None:
        """See PaddleBackend.configure."""
        if not paddle.is_compiled_with_cuda():
            raise BackendError(
                "the installed paddlepaddle is the build for CPUs; pip uninstall -y paddlepaddle, then "
                "install paddlepaddle-gpu for this CUDA as Paddle's installation page says"
            )
        config.enable_use_gpu(_POOL_MEGABYTES, 0)
        manifest, version = artifact.manifest, inference.get_trt_runtime_version()
        if manifest is None or artifact.files["program"].suffix != ".pdmodel" or not any(version):
            return
        profile = Profile.of(manifest, options)
        versions = {"paddle": paddle.__version__, "tensorrt": ".".join(map(str, version))}
        folder = EngineFolder(manifest, "program", self.gpu, versions, profile)
        if folder.state == "refused" or (folder.state is None and not options.named):
            _log.warning(
                "%s: Paddle runs without TensorRT: its engine is %s",
                artifact.stem,
                folder.state or "not built",
            )
            return
        folder.prepare(may_build=options.named)
        self._profile, self._folder, self.max_rows = profile, folder, profile.rows
        config.switch_ir_optim(True)  # TensorRT takes its part there
        config.set_optim_cache_dir(str(folder.path))
        types = inference.PrecisionType
        config.enable_tensorrt_engine(
            workspace_size=_WORKSPACE,
            max_batch_size=profile.rows,
            min_subgraph_size=_LEAST_OPERATORS,
            # The program multiplies int8 weights by their scales and computes in fp32.
            precision_mode={"fp16": types.Half, "bf16": types.Bfloat16}.get(
                manifest.precision, types.Float32
            ),
            use_static=True,
            use_calib_mode=False,
        )
        shapes = {which: list(shape) for which, shape in profile.shapes().items()}
        config.set_trt_dynamic_shape_info(
            *({name: shapes[which] for name in INPUTS} for which in ("min", "max", "opt"))
        )

    def fit(self, width: int, choices: int | None) -> None:
        """See PaddedBackend.fit."""
        if self._profile is not None:
            self._profile.fit(width, choices)

    def padded_width(self, width: int) -> int:
        """See PaddedBackend.padded_width."""
        return width if self._profile is None else self._profile.width(width)

    def info(self) -> dict[str, object]:
        """See Backend.info."""
        folder = None if self._folder is None else str(self._folder.path)
        return {**super().info(), **describe(self.gpu), "engine_folder": folder}
