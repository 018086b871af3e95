"""Run exported ALBERT models: ``Predictor("albert-base-v2.pdmodel").run(batch)``."""

from importlib import import_module
from typing import TYPE_CHECKING

from .artifact.config import AlbertConfig
from .errors import (
    AlbertError,
    ArtifactError,
    BackendError,
    Closed,
    DeadlineExceeded,
    InputError,
    Overloaded,
)
from .predictor import Predictor

__all__ = [
    "AlbertConfig",
    "AlbertError",
    "ArtifactError",
    "BackendError",
    "Closed",
    "DeadlineExceeded",
    "InputError",
    "Overloaded",
    "Predictor",
    "__version__",
    "kernels",
]

if TYPE_CHECKING:
    from . import kernels

    __version__: str
else:

    def __getattr__(name: str) -> object:
        # On first use: the extension may not load where another backend works, and metadata is slow to read.
        if name == "kernels":
            return import_module(".kernels", __name__)
        if name == "__version__":
            return import_module("importlib.metadata").version("albert-runtime")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
