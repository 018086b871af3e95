"""Where a program's files are, what kind of program it is, and the folders that say more about it."""

import re
from pathlib import Path

from albert_runtime.errors import ArtifactError

from ..errors import ExportError, UsageError
from ..names import PROGRAM_SUFFIXES, WEIGHTS_SUFFIX, model_name
from .graph import Graph

ONNX = ".onnx"
PDMODEL, PIR = PROGRAM_SUFFIXES["pdmodel"], PROGRAM_SUFFIXES["json"]
_SUFFIXES = (ONNX, PDMODEL, PIR, WEIGHTS_SUFFIX)
# What exporters call every model's program, perhaps with a word on how it was made.
_USUAL_NAMES = ("inference", "model", "__model__")
_MADE = r"([-_.](fp16|fp32|float16|bf16|bnb4|int8|uint8|q4|q4f16|quantized|optimized|simplified|sim|O[1-4]))*"
_USUAL_STEM = re.compile(rf"({'|'.join(_USUAL_NAMES)}){_MADE}")
# Repositories keep programs in folders of these names below the model's own.
_SUBFOLDERS = ("onnx", "paddle", "inference", "infer", "static")


def is_program(path: Path) -> bool:
    """Whether a path is the file of a program, or of its weights."""
    return path.suffix in _SUFFIXES and path.is_file() and (path.suffix != PIR or _has_weights(path))


def program_file(path: Path) -> Path:
    """The program itself, where ``path`` may be its weight file; UsageError if that is alone."""
    if path.suffix != WEIGHTS_SUFFIX:
        return path
    for suffix in (PDMODEL, PIR):
        if path.with_suffix(suffix).is_file():
            return path.with_suffix(suffix)
    raise UsageError(
        f"{path} holds weights alone; {path.stem}{PDMODEL} or {path.stem}{PIR} must lie beside it"
    )


def find_program(folder: Path) -> Path | None:
    """The program in a folder, or in one below it that is called onnx and the like; None without one.

    Raises UsageError if there are several: one must be named.
    """
    for place in (folder, *(folder / name for name in _SUBFOLDERS)):
        found = sorted(path for path in place.glob(f"*{ONNX}") if path.is_file())
        found += sorted(
            path for suffix in (PDMODEL, PIR) for path in place.glob(f"*{suffix}") if _has_weights(path)
        )
        if len(found) > 1:
            usual = [path for path in found if path.stem in _USUAL_NAMES]
            if len(usual) != 1:
                names = ", ".join(path.name for path in found[:6])
                raise UsageError(f"{place} holds several programs ({names}); give one as MODEL")
            found = usual
        if found:
            return found[0]
    return None


def _has_weights(path: Path) -> bool:
    return path.is_file() and path.with_suffix(WEIGHTS_SUFFIX).is_file()


def program_name(path: Path) -> str:
    """What to call a program's model: the file's name, the folder's where every exporter gives that name."""
    stem = path.stem
    if _USUAL_STEM.fullmatch(stem) is None:
        return stem
    folder = model_folder(path)
    return model_name(folder) or stem


def model_folder(path: Path) -> Path:
    """The folder of the model that a program was made of, where config and tokenizer would lie."""
    folder = path.absolute().parent
    has_config = any((folder / name).is_file() for name in ("config.json", "tokenizer_config.json"))
    return folder.parent if folder.name in _SUBFOLDERS and not has_config else folder


def read_program(path: Path) -> Graph:
    """The graph of a program's file. Raises AlbertError if it is damaged, or none that we can read."""
    # Each has imports of its own, which checkpoints do not need.
    try:
        match path.suffix:
            case ".onnx":
                from .formats.onnx_file import read_onnx  # noqa: PLC0415

                return read_onnx(path)
            case ".pdmodel":
                from .formats.pdmodel_file import read_pdmodel  # noqa: PLC0415

                return read_pdmodel(path)
            case ".json":
                from .formats.pir_file import read_pir  # noqa: PLC0415

                return read_pir(path)
    except RecursionError:
        raise ArtifactError(f"{path} is nested too deeply for a program") from None
    raise ExportError(f"{path} is no program: its name ends in none of {ONNX}, {PDMODEL}, {PIR}")
