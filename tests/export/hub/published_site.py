"""A server on 127.0.0.1 in the place of the real ones; it also truncates, stalls, redirects and lies."""

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from albert_export.errors import ExportError
from albert_export.hub import download, fetch

VARIANT = "albert-base-v2"
PDPARAMS = f"{VARIANT}.pdparams"
WEIGHTS = bytes(range(256)) * 4000
SPIECE = b"\x0a\x03\x0a\x01a pieces"

TAG = '"v1"'

Behaviour = Callable[["Handler", bytes], None]


@dataclass
class Site:
    """What the stand-in serves, what it does at a path (in turn, then plainly), and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    script: dict[str, list[Behaviour]] = field(default_factory=dict)
    always: dict[str, Behaviour] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    tag: str = TAG
    address: str = ""

    def asked(self, ending: str) -> list[dict[str, str]]:
        return [headers for path, headers in self.requests if path.endswith(ending)]


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site = self.site
        site.requests.append((self.path, dict(self.headers)))
        name = self.path.rpartition("/")[2]
        turns = site.script.get(name)
        behaviour = turns.pop(0) if turns else site.always.get(name, honest)
        content = site.files.get(self.path, site.files.get(name))
        try:
            if content is None and behaviour is honest:
                self.answer(404, b"no such file")
            else:
                behaviour(self, content or b"")
        except (BrokenPipeError, ConnectionResetError):
            pass

    def answer(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Nothing on stderr."""


def honest(handler: Handler, content: bytes) -> None:
    """Serve the file; a range of it if asked for one of this version."""
    asked, tag = handler.headers.get("Range"), handler.site.tag
    if asked and handler.headers.get("If-Range") == tag:
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            return handler.answer(416, b"")
        span = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return handler.answer(206, content[start:], Content_Range=span, ETag=tag)
    handler.answer(200, content, ETag=tag)


def truncates(at: int) -> Behaviour:
    return lambda handler, content: handler.answer(200, content[:at], len(content), ETag=handler.site.tag)


def stalls(handler: Handler, content: bytes) -> None:
    handler.answer(200, content[:100_000], len(content), ETag=handler.site.tag)
    handler.wfile.flush()
    time.sleep(1)


def status(code: int, **headers: str) -> Behaviour:
    return lambda handler, content: handler.answer(code, b"sorry", **headers)


def ignores_range(handler: Handler, content: bytes) -> None:
    handler.answer(200, content, ETag=handler.site.tag)


def wrong_range(handler: Handler, content: bytes) -> None:
    handler.answer(206, content[5:], Content_Range=f"bytes 5-{len(content) - 1}/{len(content)}")


def redirects(to: str) -> Behaviour:
    return lambda handler, content: handler.answer(
        302, b"", Location=to.replace("SITE", handler.site.address)
    )


def without_length(handler: Handler, content: bytes) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(content)


def chunked(handler: Handler, content: bytes) -> None:
    handler.protocol_version = "HTTP/1.1"
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content))


@contextlib.contextmanager
def serving(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site with two variants' files; the environment points to it and to ``cache``."""
    names = ("albert-base-v2.pdparams", "albert-chinese-tiny.pdparams")
    site = Site({name: WEIGHTS for name in names})
    site.files |= {"albert-base-v2.spiece.model": SPIECE, "albert-chinese-tiny.vocab.txt": b"[PAD]\n"}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("SiteHandler", (Handler,), {"site": site}))
    site.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    for name in ("ALBERT_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("ALBERT_CACHE", str(cache))
    monkeypatch.setenv("ALBERT_PADDLENLP_MIRROR", f"{site.address}/albert/")
    monkeypatch.setenv("HF_ENDPOINT", site.address)
    monkeypatch.setattr(download, "BACKOFF", 0.001)
    monkeypatch.setattr(download, "READ_TIMEOUT", 0.3)
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def get(variant: str = VARIANT, **options) -> Path:
    return fetch.fetch(variant, progress=lambda name, done, total: None, **options)


def is_whole(folder: Path) -> bool:
    """The weights are there, recorded as sha256sum does, and nothing half-written is."""
    file = folder / "model_state.pdparams"
    record = (folder / "model_state.pdparams.sha256").read_text()
    return (
        file.read_bytes() == WEIGHTS
        and record == f"{hashlib.sha256(WEIGHTS).hexdigest()}  model_state.pdparams\n"
        and not [*folder.glob("*.part*"), *folder.glob("*.new")]
    )


def refused(match: str, **options) -> str:
    """The error of a fetch: one line, and no half file is in the cache."""
    with pytest.raises(ExportError, match=match) as caught:
        get(**options)
    folder = fetch.cache_folder() / "paddlenlp" / VARIANT
    assert not (folder / "model_state.pdparams").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)
