"""What every backend is, the options it gets, and helpers to load one."""

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..artifact.tasks import INPUTS
from ..batch.packed import Int32, PackedBatch
from ..errors import BackendError
from ..files import is_utf8
from ..telemetry import turn_telemetry_off

Array = NDArray[np.float32]
# Name of an output -> its values, padded; see Backend.run.
Outputs = dict[str, Array]


class Backend(Protocol):
    """Runs one model. ``run`` may be called from any number of threads."""

    name: str
    outputs: tuple[str, ...]

    def run(
        self, batch: PackedBatch, outputs: Sequence[str], score_tokens: Int32 | None = None
    ) -> dict[str, Array]:
        """The named outputs, padded: per token [B, T, ...], per row [B, ...], multiple choice [B / C, C].

        Masked positions hold 0, in start_logits and end_logits -10000. With ``score_tokens``, packed tokens
        int32 [P], prediction_scores is [P, V] in their order.
        """
        ...

    def info(self) -> dict[str, object]:
        """What this backend is made of, ready for JSON."""
        ...


@dataclass(frozen=True, slots=True)
class Options:
    """How a backend is to run.

    ``device``: cpu, gpu, or auto for either. ``max_batch``, ``max_length``: rows and columns a TensorRT
    engine is built for; None = 32 and the model's positions. ``named``: whether the user asked for this
    backend by its name; only then is a TensorRT engine built, or a kernel interpreted.
    """

    num_threads: int
    precision: str
    device: str = "auto"
    max_batch: int | None = None
    max_length: int | None = None
    named: bool = False


class OwnProcess:
    """The process that a model was loaded in, by a library whose threads and locks do not survive a fork."""

    def __init__(self, library: str) -> None:
        """``library`` is what the model was loaded by or onto, for errors."""
        self._id, self._library = os.getpid(), library

    def check(self) -> None:
        """BackendError in a forked child, where the library could wait for ever for the parent's threads."""
        if os.getpid() != self._id:
            raise BackendError(
                f"a forked process cannot use its parent's {self._library}; make the Predictor after the fork"
            )


def import_package(name: str, extra: str) -> ModuleType:
    """Import an optional package; BackendError says how to install it or why it does not load."""
    turn_telemetry_off()
    install = f"pip install 'albert-runtime[{extra}]'"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        raise BackendError(f"the package {missing} is not installed; {install}") from None
    except Exception as error:
        raise BackendError(f"the package {name} does not load ({one_line(error)}); {install}") from None


def check_utf8(path: Path, reader: str) -> None:
    """BackendError if ``reader``, a library, could not open a path because of its name."""
    if not is_utf8(path):
        raise BackendError(
            f"{reader} opens no path that is not UTF-8, such as {str(path.parent)!r}; move the artifact, or "
            "use backend native"
        )


def check_inputs(names: Sequence[str], file: str) -> None:
    """Refuse a program that would ignore a mask or take one input for another."""
    if sorted(names) != sorted(INPUTS):
        raise BackendError(
            f"{file} has the inputs {', '.join(names)}, not {', '.join(INPUTS)}; use albert-export"
        )


def one_line(error: BaseException, limit: int = 300) -> str:
    """What went wrong in one line: frameworks put it before or after pages of stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Error:" in line] or lines or [type(error).__name__]
    return telling[0] if len(telling[0]) <= limit else f"{telling[0][: limit - 3]}..."
