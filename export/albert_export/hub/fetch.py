"""The published weights and tokenizer files of a variant, by its name, from a cache or from the network.

Two sources: PaddleNLP's bucket has all 14 variants, the Hugging Face hub the English eight. Both are plain
HTTPS files, so one small client (download.py) serves both; huggingface_hub would serve one of them and bring
a cache of its own. Tested against a stand-in on 127.0.0.1 only: neither the real bucket nor the real hub has
ever been asked by these tests.

Environment: ALBERT_CACHE or XDG_CACHE_HOME say where the cache is; ALBERT_PADDLENLP_MIRROR and HF_ENDPOINT
replace the servers; ALBERT_OFFLINE=1 or HF_HUB_OFFLINE=1 forbid the network.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from albert_runtime.files import cache_root, write_atomically

from ..errors import ExportError, UsageError
from ..tokenizer.build import SPIECE_NAME, VOCAB_NAME
from ..variants import VARIANTS
from .download import NotFound, Progress, download, is_cached

SOURCES = ("paddlenlp", "huggingface")

_PADDLENLP = "https://bj.bcebos.com/paddlenlp/models/transformers/albert"
_HUGGINGFACE = "https://huggingface.co"
_HUGGINGFACE_OWNER = "albert"
# Written last: what it lists is all that the source has.
_RECORD_NAME = "fetched.json"
_LOCK_NAME = ".lock"
_LOCK_POLL = 0.2  # seconds


@dataclass(frozen=True)
class _Wanted:
    """A file of the folder, under the first of ``urls`` that is there. ``optional``: it may be nowhere."""

    name: str
    url: str
    optional: bool = False
    instead: "_Wanted | None" = None


def fetch(
    variant: str, *, source: str = "paddlenlp", revision: str | None = None, progress: Progress
) -> Path:
    """A folder with the published checkpoint of ``variant``: from the cache, else downloaded into it.

    ``revision``: a branch, tag or commit of the Hugging Face repository (default: main). ``progress(name,
    bytes so far, all bytes or None)`` is called while bytes come, and not at all for what is cached. What is
    in the cache is checked against the checksum recorded when it came. Raises UsageError for a source or
    revision that does not exist for this variant, and ExportError, one line with the remedy, for all else.
    """
    wanted = _wanted(variant, source, revision)
    folder = cache_folder() / source
    if source == "huggingface":
        folder /= (revision or "main").replace("/", "--")
    folder /= variant
    if _is_complete(folder):
        return folder
    if is_offline():
        state = "is damaged in" if (folder / _RECORD_NAME).is_file() else "is not in"
        raise ExportError(
            f"{variant} {state} the cache {folder} and the network is off (ALBERT_OFFLINE/HF_HUB_OFFLINE); "
            "give the files with --weights PATH, or try --random-weights"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder, progress):
            if not _is_complete(folder):  # another process may have done it meanwhile
                _fill(folder, variant, source, wanted, progress)
    except OSError as error:
        remedy = "free some, or " if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else ""
        raise ExportError(
            f"{error.filename or folder}: {error.strerror or error}; "
            f"{remedy}name another cache folder with ALBERT_CACHE"
        ) from None
    return folder


def cache_folder() -> Path:
    """Where downloads are kept: ALBERT_CACHE, else XDG_CACHE_HOME/albert-runtime, else ~/.cache/..."""
    if own := os.environ.get("ALBERT_CACHE"):
        return Path(own).expanduser().absolute()
    root = cache_root()
    if root is None:
        raise ExportError("there is no home folder for downloads; name a cache folder with ALBERT_CACHE")
    return root


def is_offline() -> bool:
    """Whether the environment forbids the network."""
    values = (os.environ.get(name, "") for name in ("ALBERT_OFFLINE", "HF_HUB_OFFLINE"))
    return any(value.lower() in ("1", "true", "yes", "on") for value in values)


def _wanted(variant: str, source: str, revision: str | None) -> list[_Wanted]:
    if variant not in VARIANTS:
        raise UsageError(f"{variant!r} is none of the published variants")
    chinese = "-chinese-" in variant
    if source == "paddlenlp":
        if revision is not None:
            raise UsageError("PaddleNLP's files have no revisions; --revision needs --source huggingface")
        base = _server("ALBERT_PADDLENLP_MIRROR", _PADDLENLP)
        vocabulary = VOCAB_NAME if chinese else SPIECE_NAME
        return [
            _Wanted(vocabulary, f"{base}/{variant}.{vocabulary}"),
            _Wanted("model_state.pdparams", f"{base}/{variant}.pdparams"),
        ]
    if source != "huggingface":
        raise UsageError(f"{source!r} is no source of weights; there are {' and '.join(SOURCES)}")
    if chinese:
        raise UsageError(f"{variant} is not published on Hugging Face; use --source paddlenlp")
    revision = revision if revision is not None else "main"
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", revision, re.ASCII) or ".." in revision:
        raise UsageError(f"{revision!r} cannot be a revision: a branch, a tag or a commit")
    server = _server("HF_ENDPOINT", _HUGGINGFACE)
    base = f"{server}/{_HUGGINGFACE_OWNER}/{variant}/resolve/{revision.replace('/', '%2F')}"
    older = _Wanted("pytorch_model.bin", f"{base}/pytorch_model.bin")
    return [
        _Wanted("config.json", f"{base}/config.json"),
        *(
            _Wanted(name, f"{base}/{name}", optional=True)
            for name in ("tokenizer_config.json", "tokenizer.json", SPIECE_NAME)
        ),
        _Wanted("model.safetensors", f"{base}/model.safetensors", instead=older),
    ]


def _server(variable: str, default: str) -> str:
    address = (os.environ.get(variable) or default).rstrip("/")
    if not re.match(r"https?://[^/]", address):
        raise UsageError(f"{variable} is {address!r}, which is no http or https address")
    return address


def _fill(folder: Path, variant: str, source: str, wanted: list[_Wanted], progress: Progress) -> None:
    names = [name for file in wanted if (name := _bring(folder, file, progress)) is not None]
    if source == "paddlenlp":
        write_atomically(folder / "config.json", _paddlenlp_config(variant))
    record = {"variant": variant, "source": source, "files": names}
    write_atomically(folder / _RECORD_NAME, json.dumps(record, indent=1).encode())


def _bring(folder: Path, file: _Wanted, progress: Progress) -> str | None:
    """Have the file, or the one instead of it, in the folder; its name, None if neither is published."""
    target = folder / file.name
    if is_cached(target):
        return file.name
    try:
        download(file.url, target, progress)
    except NotFound as error:
        if file.instead is not None:
            return _bring(folder, file.instead, progress)
        if not file.optional:
            raise ExportError(f"{error}; another --source or the mirror's address may help") from None
        return None
    return file.name


def _paddlenlp_config(variant: str) -> bytes:
    """config.json, of which PaddleNLP keeps the values in its code. The encoder: the files hold all heads."""
    values = VARIANTS[variant].to_dict()
    del values["padding_idx"]  # what every model of PaddleNLP origin does is no field of its config
    values |= {"model_type": "albert", "architectures": ["AlbertModel"]}
    return json.dumps(values, indent=2).encode()


def _is_complete(folder: Path) -> bool:
    """Whether all that the source has is here and undamaged."""
    try:
        names = json.loads((folder / _RECORD_NAME).read_bytes())["files"]
        return bool(names) and all(is_cached(folder / Path(name).name) for name in names)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


@contextlib.contextmanager
def _lock(folder: Path, progress: Progress) -> Iterator[None]:
    """One process at a time fills a folder; the others wait for it."""
    with (folder / _LOCK_NAME).open("w") as file:  # closing it lets go of the lock
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                progress("waiting for another process", 0, None)
                time.sleep(_LOCK_POLL)
        yield
