"""One file over HTTP into a cache: resumed, retried, checked, and there only when it is whole.

Uses requests: well kept, and it honours the proxies and certificate bundles of the environment.

Beside NAME lies NAME.sha256, in the form that `sha256sum -c` reads. While a download is under way or was
interrupted there are NAME.part and NAME.part.json (where it came from, and the server's mark of its version).
"""

import errno
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests

from albert_runtime.files import sha256_file, write_atomically

from ..errors import ExportError
from ..names import human_size

Progress = Callable[[str, int, int | None], None]

CONNECT_TIMEOUT = 10.0  # seconds
READ_TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 5  # in a row without a new byte
BACKOFF = 0.5  # seconds before the second attempt; doubled for each further one
MAX_WAIT = 30.0  # seconds, whatever a server asks for

_MAX_REDIRECTS = 10
_CHUNK = 1 << 16  # bytes; what a broken connection loses at most
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_HEADERS = {"User-Agent": "albert-export", "Accept-Encoding": "identity"}
_SHA256 = re.compile(r"[0-9a-f]{64}")


class NotFound(ExportError):
    """The server has no such file."""


class _Retry(Exception):
    """This attempt failed, another one may not; the text says why. ``wait``: seconds the server asks for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass
class _Answer:
    """The response behind all redirects. ``sha256``: of the whole file, where the server publishes it."""

    response: requests.Response
    sha256: str | None


def is_cached(target: Path) -> bool:
    """Whether the file is there and is, byte for byte, what was downloaded."""
    record = checksum_file(target)
    if not (target.is_file() and record.is_file()):
        return False
    return record.read_text(encoding="utf-8", errors="replace").split(" ")[0] == sha256_file(target)


def checksum_file(target: Path) -> Path:
    """Where the checksum of ``target`` is recorded."""
    return target.with_name(f"{target.name}.sha256")


def download(url: str, target: Path, progress: Progress) -> None:
    """Fetch ``url`` into ``target``; the caller holds the folder's lock.

    ``progress(name, bytes so far, all bytes or None)`` is called as they come. Raises NotFound for 404, else
    ExportError: one line with the remedy; OSError for what the file system refuses.
    """
    part = target.with_name(f"{target.name}.part")
    with requests.Session() as session:
        failures, most = 0, _size(part)
        while True:
            try:
                published = _attempt(session, url, part, target.name, progress)
                break
            except _Retry as error:
                failures = 1 if _size(part) > most else failures + 1
                most = max(most, _size(part))
                if failures >= ATTEMPTS:
                    raise ExportError(_gave_up(url, part, error)) from None
                time.sleep(min(MAX_WAIT, max(error.wait, BACKOFF * 2 ** (failures - 1))))
    _check_content(url, part, published)
    _publish(part, target)


def _attempt(session: requests.Session, url: str, part: Path, name: str, progress: Progress) -> str | None:
    """Bring ``part`` to its end; the published SHA-256, if any. Raises _Retry with what is there kept."""
    mark = _mark_of(part, url)
    offset = _size(part) if mark else 0
    ranged = {"Range": f"bytes={offset}-", "If-Range": mark} if mark and offset else {}
    try:
        answer = _get(session, url, {**_HEADERS, **ranged})
        with answer.response as response:
            start, total = _extent(response, url, part, offset)
            if start == 0:
                _start(part, url, response)
            if total is not None and total - start > shutil.disk_usage(part.parent).free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            done = start
            with part.open("r+b" if start else "wb") as file:
                file.seek(start)
                progress(name, done, total)
                for chunk in response.iter_content(_CHUNK):
                    file.write(chunk)
                    done += len(chunk)
                    progress(name, done, total)
                file.flush()
                os.fsync(file.fileno())
    except ValueError as error:  # an address that is none, there or behind a redirect
        raise ExportError(f"{shown(url)}: {error}") from None
    except requests.RequestException as error:
        raise _Retry(_reason(error)) from None
    if total is not None and done != total:
        raise _Retry(f"it ended after {done:,} of {total:,} bytes")
    return answer.sha256


def _get(session: requests.Session, url: str, headers: dict[str, str]) -> _Answer:
    """GET with redirects followed here: to http and https only, and never from https down to http."""
    published = None
    for _ in range(_MAX_REDIRECTS + 1):
        response = session.get(
            url, headers=headers, stream=True, allow_redirects=False, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT)
        )
        # Hugging Face names the SHA-256 of a large file before it redirects to where that is kept.
        linked = response.headers.get("X-Linked-Etag", "").strip('"')
        published = linked if _SHA256.fullmatch(linked) else published
        location = session.get_redirect_target(response)
        if location is None:
            return _Answer(response, published)
        response.close()
        following = urljoin(url, location)
        schemes = urlsplit(url).scheme, urlsplit(following).scheme
        if schemes[1] not in ("http", "https") or schemes == ("https", "http"):
            raise ExportError(f"{shown(url)} redirects to {shown(following)}, which is not followed")
        url = following
    raise ExportError(f"{shown(url)}: more than {_MAX_REDIRECTS} redirects; check the mirror's address")


def _extent(response: requests.Response, url: str, part: Path, offset: int) -> tuple[int, int | None]:
    """(where the body starts in the file, size of the whole file or None if the framing tells its end)."""
    status = response.status_code
    if status == 404:
        raise NotFound(f"{shown(url)}: HTTP 404, there is no such file")
    if status in _AGAIN:
        wait = response.headers.get("Retry-After", "")
        raise _Retry(f"HTTP {status}", float(wait) if wait.isascii() and wait.isdigit() else 0.0)
    if status == 416:  # what is here is longer than what is there
        part.unlink(missing_ok=True)
        raise _Retry("HTTP 416")
    if status not in (200, 206):
        raise ExportError(f"{shown(url)}: HTTP {status} {response.reason or ''}".rstrip())
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise ExportError(_web_page(url))
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise ExportError(f"{shown(url)}: compressed on the way, although that was not asked for")
    length = response.headers.get("Content-Length", "")
    if status == 206:
        range_ = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("Content-Range", ""))
        if range_ is None or int(range_[1]) != offset or int(range_[2]) + 1 != int(range_[3]):
            part.unlink(missing_ok=True)
            raise _Retry("it answered with another range than asked for")
        return offset, int(range_[3])
    if length.isascii() and length.isdigit():
        return 0, int(length)
    if "chunked" not in response.headers.get("Transfer-Encoding", ""):
        raise ExportError(f"{shown(url)}: the server does not say how long the file is")
    return 0, None


def _start(part: Path, url: str, response: requests.Response) -> None:
    """Record URL and version of a partial file, so that only bytes of the same version are appended."""
    part.unlink(missing_ok=True)
    tag = response.headers.get("ETag", "")
    mark = response.headers.get("Last-Modified", "") if not tag else "" if tag.startswith("W/") else tag
    write_atomically(_note(part), json.dumps({"url": url, "mark": mark}).encode())


def _mark_of(part: Path, url: str) -> str:
    """The version that a partial file is of; empty if it cannot be resumed."""
    try:
        note = json.loads(_note(part).read_bytes())
    except (OSError, ValueError, RecursionError):
        return ""
    mark = note.get("mark") if isinstance(note, dict) and note.get("url") == url else None
    return mark if isinstance(mark, str) else ""


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _check_content(url: str, part: Path, published: str | None) -> None:
    with part.open("rb") as file:
        head = file.read(64).lstrip().lower()
    problem = None
    if not head:
        problem = f"{shown(url)}: the file is empty"
    elif head.startswith((b"<!doctype html", b"<html")):
        problem = _web_page(url)
    elif published is not None and sha256_file(part) != published:
        problem = f"{shown(url)}: what came does not match the published checksum; try again"
    if problem:
        part.unlink()
        raise ExportError(problem)


def _publish(part: Path, target: Path) -> None:
    """The checksum first: without one a file in the cache counts for nothing."""
    write_atomically(checksum_file(target), f"{sha256_file(part)}  {target.name}\n".encode())
    part.replace(target)
    _note(part).unlink(missing_ok=True)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


# ---- Messages


def shown(url: str) -> str:
    """A URL without the password that it may carry."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def _gave_up(url: str, part: Path, error: _Retry) -> str:
    if size := _size(part):
        remedy = f"{human_size(size)} are kept, try again to go on from there"
    else:
        remedy = "try again, or give the files with --weights PATH, or try --random-weights"
    return f"cannot fetch {shown(url)}: {error}; {remedy}"


def _web_page(url: str) -> str:
    return f"{shown(url)}: a web page came instead of the file; check mirror, proxy and network login"


def _reason(error: requests.RequestException) -> str:
    match error:
        case requests.exceptions.SSLError():
            return "its TLS certificate is not accepted"
        case requests.exceptions.ProxyError():
            return "the proxy does not answer"
        case requests.exceptions.Timeout():
            return "no answer in time"
        case requests.exceptions.ChunkedEncodingError():
            return "the connection broke off"
        case requests.exceptions.ConnectionError():
            # iter_content() also wraps a timeout between two chunks in one.
            return "no answer in time" if "timed out" in str(error) else "no connection"
    return type(error).__name__
