"""An exported model's files: the manifest and what it says of them."""

from .artifact import Artifact
from .config import AlbertConfig, layer_prefix
from .manifest import Manifest

__all__ = ["AlbertConfig", "Artifact", "Manifest", "layer_prefix"]
