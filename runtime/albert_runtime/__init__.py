"""Run exported ALBERT models: ``Predictor("albert-base-v2.pdmodel").run(batch)``."""

from importlib import import_module
from typing import TYPE_CHECKING

from .errors import (
    AlbertError,
    ArtifactError,
    BackendError,
    Closed,
    DeadlineExceeded,
    InputError,
    Overloaded,
)

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
    from .artifact.config import AlbertConfig
    from .predictor import Predictor

    __version__: str
else:
    _MODULES = {"AlbertConfig": ".artifact.config", "Predictor": ".predictor"}

    def __getattr__(name: str) -> object:
        # On first use: numpy is slow to import and metadata slow to read, while albert-serve must handle
        # signals at once; and the extension may not load where another backend works.
        if name in _MODULES:
            found = getattr(import_module(_MODULES[name], __name__), name)
        elif name == "kernels":
            found = import_module(".kernels", __name__)
        elif name == "__version__":
            found = import_module("importlib.metadata").version("albert-runtime")
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found
        return found
