"""The files that hold a checkpoint's tensors, of either library, in one piece or in shards."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from albert_runtime.errors import ArtifactError

from ..errors import ExportError
from .lora import CONFIG_NAME, is_adapter_file, merge_whole, merged, plain_names, read_adapter
from .pickle_machine import read_state_dict
from .safetensors_file import read_safetensors
from .stored_tensor import StoredTensor, StoredTensors, shown
from .tensorflow.bundle import INDEX, bundle_files, read_bundle
from .torch_legacy import is_legacy, read_legacy
from .torch_zip import read_zip
from .wrappers import without_wrappers

PDPARAMS = ".pdparams"
# Whatever users call what torch.save writes; a folder's own is the first.
TORCH = (".bin", ".pt", ".pth", ".ckpt", ".t7")
SUFFIXES = (PDPARAMS, ".safetensors", *TORCH)
# In the order in which a folder is searched; transformers, too, prefers safetensors.
WEIGHT_NAMES = (
    "model_state.pdparams",
    "model_state.pdparams.index.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
if TYPE_CHECKING:
    from hashlib import _Hash as Digest

_BLOCK = 1 << 22
_INDEX_SUFFIX = ".index.json"
_MAX_INDEX_BYTES = 1 << 24
_MAX_SHARDS = 1000


def weight_files(path: Path) -> tuple[Path, ...]:
    """The files behind ``path``: itself, or the shards that an index names (plain names beside it only).

    TensorFlow's index, which holds the tensors' shapes and places, is itself the first of them.
    """
    if is_tensorflow(path):
        return bundle_files(path)
    if not path.name.endswith(_INDEX_SUFFIX):
        return (path,)
    if path.stat().st_size > _MAX_INDEX_BYTES:
        raise ArtifactError(f"{path} is far larger than an index can be")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not readable as JSON ({str(error)[:80]})") from None
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise ArtifactError(f"{path} holds no weight_map of tensors and files")
    shards = sorted(set(names.values()))
    suffix = Path(path.name.removesuffix(_INDEX_SUFFIX)).suffix
    for name in shards:
        if not _is_plain(name) or not name.endswith(suffix):
            raise ArtifactError(f"{path} names {shown(name)!r}, which is no plain name of a {suffix} file")
        if not (path.parent / name).is_file():
            raise ExportError(f"{path} names {shown(name)}, which is not there; fetch the checkpoint again")
    if len(shards) > _MAX_SHARDS:
        raise ArtifactError(f"{path} names more than {_MAX_SHARDS} files")
    return tuple(path.parent / name for name in shards)


def is_pdparams(path: Path) -> bool:
    """Whether a weight file or index is one of PaddleNLP's own, by its name."""
    return path.name.removesuffix(_INDEX_SUFFIX).endswith(PDPARAMS)


def is_tensorflow(path: Path) -> bool:
    """Whether a weight file is the index of a TensorFlow checkpoint, by its name."""
    return path.name.endswith(INDEX)


def _is_plain(name: str) -> bool:
    return name.isprintable() and Path(name).name == name and not {"/", "\\", ":"} & set(name)


def read_tensors(files: tuple[Path, ...], digest: "Digest | None" = None) -> StoredTensors:
    """Everything the files hold, by name without a wrapper's prefix; a LoRA adapter among them is merged.

    Raises AlbertError, also for a tensor that two files hold.

    ``digest`` is updated with the bytes of all files, in order. A .pdparams, which holds its tensors in one
    pickle, is read once for both; the tensors of the other formats are left unread.
    """
    if is_tensorflow(files[0]):
        if digest is not None:
            for path in files:
                update_digest(digest, path)
        return read_bundle(files[0])
    stored: StoredTensors = {}
    adapter: StoredTensors | None = None
    for path in files:
        part = _read_file(path, digest)
        if is_adapter_file(path) and len(files) > 1:
            adapter, adapter_config = plain_names(part), read_adapter(path.parent / CONFIG_NAME)
            continue
        # Paddle writes an entry of its own, which is no tensor, into every shard.
        twice = sorted(
            name
            for name in part.keys() & stored.keys()
            if isinstance(part[name], StoredTensor) or isinstance(stored[name], StoredTensor)
        )
        if twice:
            raise ArtifactError(
                f"{path} holds {shown(twice[0])}, which another file of the checkpoint holds too"
            )
        stored.update(part)
    stored = without_wrappers(merge_whole(stored, files[0].parent))
    return stored if adapter is None else merged(stored, adapter, adapter_config)


def _read_file(path: Path, digest: "Digest | None") -> StoredTensors:
    if path.suffix == PDPARAMS:
        return {
            name: _in_memory(path, name, value) if isinstance(value, np.ndarray) else value
            for name, value in read_state_dict(path, digest).items()
        }
    if digest is not None:
        update_digest(digest, path)
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if path.suffix in TORCH:
        return read_legacy(path) if is_legacy(path) else read_zip(path)
    raise ExportError(f"{path} is no {', '.join(SUFFIXES)} file")


def _in_memory(path: Path, name: str, value: np.ndarray) -> StoredTensor:
    # Paddle keeps bfloat16 in numpy arrays of uint16.
    dtype = value.dtype.newbyteorder("=").name
    return StoredTensor(path, name, value.shape, "bfloat16" if dtype == "uint16" else dtype, lambda: value)


def update_digest(digest: "Digest", path: Path) -> None:
    """Update ``digest`` with the bytes of a file."""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
