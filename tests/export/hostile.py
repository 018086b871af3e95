"""Reading weight files that lie, for several modules of tests."""

from pathlib import Path

import numpy as np
import pytest

from albert_export.checkpoint.stored_tensor import StoredTensor
from albert_export.checkpoint.weight_files import read_tensors, weight_files
from albert_runtime.errors import AlbertError


def read(path: Path) -> dict[str, object]:
    """Every value of every tensor in a file or behind an index."""
    return {
        name: tensor.float32() if isinstance(tensor, StoredTensor) else tensor
        for name, tensor in read_tensors(weight_files(path)).items()
    }


def refused(path: Path, words: str) -> str:
    """The one line with which a file is refused; ``words`` is a pattern of it."""
    with pytest.raises(AlbertError, match=words) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600 and str(path.parent) in message
    return message


def survives_flips(path: Path, flips: list[tuple[int, int]], keep: float) -> None:
    """Damage a file, cut it, and read it: it may be readable, or refused in one line."""
    data = bytearray(path.read_bytes())
    del data[int(len(data) * keep) :]
    for position, value in flips:
        data[position % len(data)] = value
    path.write_bytes(data)
    try:
        read(path)
    except AlbertError as error:
        assert "\n" not in str(error)


A = np.arange(6, dtype=np.float32).reshape(2, 3)
