"""Paddle Inference on the CPU, from STEM.pdmodel or STEM.json and STEM.pdiparams."""

import os
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact.artifact import Artifact
from ..artifact.tasks import INPUTS, MULTIPLE_CHOICE
from ..batch.packed import Int64
from ..errors import BackendError, UnsupportedError
from ..threads import OMP_NUM_THREADS
from .base import Options, OwnProcess, check_inputs, check_utf8, import_package, one_line
from .padded import PaddedBackend

# What oneDNN, which Paddle leaves bfloat16 to, may use of the processor.
_ONEDNN_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


class PaddleBackend(PaddedBackend):
    """One predictor. Paddle's predictors are not thread-safe: calls from several threads take turns."""

    name = "paddle"

    def __init__(self, artifact: Artifact, options: Options) -> None:
        """Load the program; BackendError if it has none, or Paddle is missing or refuses it.

        UnsupportedError if Paddle does not compute here what the artifact stores.
        """
        program, weights = artifact.files.get("program"), artifact.files.get("weights")
        if program is None or weights is None:
            raise BackendError(f"{artifact.stem} has no Paddle program; export the model again")
        self.check_precision(artifact, program)
        paddle, inference = _import_paddle()
        # Damaged, the program would end the process rather than raise. Paddle reads both by their names, so
        # whoever chose this backend checks that these still led to the same files.
        artifact.verify_file("program")
        artifact.verify_file("weights")
        if program.suffix == ".pdmodel" and not _starts_as_program(program):
            raise BackendError(f"{program} is no Paddle program; restore it or export the model again")
        config = _lean_config(inference, program, weights)
        self.configure(config, paddle, inference, artifact, options)
        try:
            self._predictor = inference.create_predictor(config)
        except Exception as error:
            raise BackendError(f"Paddle Inference cannot load {program.name} ({one_line(error)})") from None
        check_inputs(self._predictor.get_input_names(), program.name)
        fetched = self._predictor.get_output_names()
        # The program's own names (tanh_12.tmp_0, fetch_name_1) mean nothing; their order is the manifest's.
        self.outputs = tuple(fetched) if artifact.manifest is None else artifact.manifest.outputs
        if len(fetched) != len(self.outputs):
            raise BackendError(f"{program.name} has {len(fetched)} outputs, its manifest {len(self.outputs)}")
        self._fetched = dict(zip(self.outputs, fetched, strict=True))
        self._version, self._threads = paddle.__version__, options.num_threads
        self.process = OwnProcess("Paddle predictor")
        self._lock = threading.Lock()
        if artifact.manifest is not None:
            self.vocab_size = artifact.manifest.config.vocab_size
            if artifact.manifest.precision == "bf16" and options.device != "gpu":
                self._check_bfloat16(paddle, artifact.manifest.task)

    def check_precision(self, artifact: Artifact, program: Path) -> None:
        """UnsupportedError if this kind of device does not compute what the artifact stores."""
        if artifact.manifest is not None and artifact.manifest.precision == "fp16":
            raise UnsupportedError(
                f"Paddle computes no float16 on a CPU, which {program.name} asks for; "
                "use backend='native', or export with --bf16 or in fp32"
            )

    def configure(
        self, config: Any, paddle: ModuleType, inference: ModuleType, artifact: Artifact, options: Options
    ) -> None:
        """Complete the settings of paddle.inference.Config for this device."""
        config.disable_gpu()
        config.set_cpu_math_library_num_threads(options.num_threads)

    def _check_bfloat16(self, paddle: ModuleType, task: str) -> None:
        """UnsupportedError if this processor may have no products of bfloat16, and the program fails."""
        # AVX-512 has them always, the newest AVX2 too: Paddle tells the former, not the latter, and does not
        # heed the limits. So one token has the last word.
        limited = any(name in os.environ for name in _ONEDNN_LIMITS)
        if paddle.base.core.supports_bfloat16() and not limited:
            return
        one = np.ones((1, 1, 1) if task == MULTIPLE_CHOICE else (1, 1), np.int64)
        ids = dict.fromkeys(INPUTS, one) | {"input_ids": 0 * one, "token_type_ids": 0 * one}
        try:
            self.forward(ids, self.outputs[:1])
        except BackendError:
            raise UnsupportedError(
                "Paddle multiplies no bfloat16 on this processor; use backend='native'"
            ) from None

    def forward(self, inputs: dict[str, Int64], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """See PaddedBackend.forward."""
        with self._lock:
            try:
                for name, values in inputs.items():
                    self._predictor.get_input_handle(name).copy_from_cpu(values)
                self._predictor.run()
                return [
                    self._predictor.get_output_handle(self._fetched[name]).copy_to_cpu() for name in outputs
                ]
            except Exception as error:
                raise BackendError(f"Paddle Inference failed on this batch ({one_line(error)})") from None

    def info(self) -> dict[str, object]:
        """See Backend.info."""
        return {"version": self._version, "num_threads": self._threads}


def _import_paddle() -> tuple[ModuleType, ModuleType]:
    """paddle and paddle.inference, imported without warnings of compilers that are not here."""
    threads = os.environ.get(OMP_NUM_THREADS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paddle = import_package("paddle", "paddle")
        inference = import_package("paddle.inference", "paddle")
    if threads is None:  # Paddle has set it to 1, which child processes would take for the user's wish
        os.environ.pop(OMP_NUM_THREADS, None)
    return paddle, inference


def _starts_as_program(path: Path) -> bool:
    """Whether a .pdmodel starts with a block (protobuf field 1); on other bytes Paddle's parser crashes."""
    with path.open("rb") as file:
        return file.read(1) == b"\n"


def _lean_config(inference: Any, program: Path, weights: Path) -> Any:
    """The settings under which memory depends neither on the number of layers nor on the shapes seen."""
    check_utf8(program, "Paddle")
    config = inference.Config(str(program), str(weights))
    config.disable_glog_info()
    # Paddle's default on CPUs. For a .json program it packs a copy of the weights for every use, once per
    # layer (10.6 GB instead of 0.9 for ALBERT-xxlarge); for a .pdmodel it keeps data for every batch shape it
    # has met.
    config.disable_mkldnn()
    if program.suffix == ".pdmodel":
        # Fusing a matrix product with its bias copies the weights once per layer.
        config.switch_ir_optim(False)
        # Without it all activations of all layers are kept. A .json program frees them by itself and refuses
        # this.
        config.enable_memory_optim()
    return config
