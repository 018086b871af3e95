"""What a backend is, and the work that those sharing a padded form have in common."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..batch import Int64, PackedBatch
from ..errors import BackendError

Array = NDArray[np.float32]

# Bounds the memory of one run, whatever the batch: with 512 columns, attention scores of ALBERT-xxlarge take
# 0.5 GB a pass.
TOKENS_PER_PASS = 4096
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class Backend(Protocol):
    """Runs one model. ``run`` may be called from any number of threads."""

    name: str
    outputs: tuple[str, ...]

    def run(self, batch: PackedBatch, outputs: Sequence[str]) -> dict[str, Array]:
        """The named outputs, padded: per token [B, T, ...] with 0 at masked positions, per row [B, ...]."""
        ...

    def info(self) -> dict[str, object]:
        """What this backend is made of, ready for JSON."""
        ...


class PaddedBackend(ABC):
    """A backend that takes padded int64 arrays: passes of bounded size, as wide as their longest row."""

    name: str
    outputs: tuple[str, ...]

    @abstractmethod
    def forward(self, inputs: dict[str, Int64], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """The named outputs for one padded pass, in new arrays; any number of threads may call it."""

    def run(self, batch: PackedBatch, outputs: Sequence[str]) -> dict[str, Array]:
        """See Backend.run."""
        results: dict[str, Array] = {}
        rows = max(1, TOKENS_PER_PASS // batch.width)
        for start in range(0, batch.shape[0], rows):
            stop = min(start + rows, batch.shape[0])
            part = batch.rows(start, stop)
            width = part.width
            arrays = part.to_padded(width)
            masked = arrays[1] == 0
            inputs = dict(zip(INPUTS, arrays, strict=True))
            for name, values in zip(outputs, self.forward(inputs, outputs), strict=True):
                if values.shape[:1] != (stop - start,):
                    raise BackendError(
                        f"output {name} has shape {values.shape} for {stop - start} rows; "
                        "it is not one result a row"
                    )
                per_token = values.ndim > 2 and values.shape[1] == width
                if name not in results:
                    inner = (batch.shape[1], *values.shape[2:]) if per_token else values.shape[1:]
                    results[name] = np.zeros((batch.shape[0], *inner), np.float32)
                if per_token:
                    values[masked] = 0
                    results[name][start:stop, :width] = values
                else:
                    results[name][start:stop] = values
        return results


def import_package(name: str, extra: str) -> ModuleType:
    """Import an optional package; BackendError says how to install it or why it does not load."""
    install = f"pip install 'albert-runtime[{extra}]'"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        raise BackendError(f"the package {missing} is not installed; {install}") from None
    except Exception as error:
        raise BackendError(f"the package {name} does not load ({one_line(error)}); {install}") from None


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
