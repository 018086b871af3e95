"""One file over HTTP, from servers that break off, stall, redirect and lie."""

import hashlib
import time
from collections.abc import Iterator

import pytest

from albert_export.errors import ExportError
from albert_export.hub import download, fetch

from .published_site import (
    PDPARAMS,
    TAG,
    VARIANT,
    WEIGHTS,
    Site,
    chunked,
    get,
    ignores_range,
    is_whole,
    redirects,
    refused,
    serving,
    stalls,
    status,
    truncates,
    without_length,
    wrong_range,
)


@pytest.fixture
def site(tmp_path, monkeypatch) -> Iterator[Site]:
    with serving(tmp_path / "cache", monkeypatch) as site:
        yield site


def test_a_broken_download_goes_on(site):
    site.script[PDPARAMS] = [truncates(300_000), status(503)]
    assert is_whole(get())
    asked = site.asked("pdparams")
    assert [headers.get("Range") for headers in asked] == [None, "bytes=262144-", "bytes=262144-"]
    assert asked[1]["If-Range"] == TAG


def test_an_interrupted_command_goes_on_next_time(site):
    def interrupt(name: str, done: int, total: int | None) -> None:
        if name == "model_state.pdparams" and done > 500_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch.fetch(VARIANT, progress=interrupt)
    assert is_whole(get())
    first, second = site.asked("pdparams")
    assert first.get("Range") is None
    assert int(second["Range"].removeprefix("bytes=").removesuffix("-")) > 500_000
    assert len(site.asked("spiece.model")) == 1


@pytest.mark.parametrize("behaviour", [ignores_range, wrong_range])
def test_a_server_without_proper_ranges_starts_over(site, behaviour):
    site.script[PDPARAMS] = [truncates(1000), behaviour]
    assert is_whole(get())


@pytest.mark.parametrize("tag", ["", 'W/"v1"'])
def test_without_a_strong_mark_nothing_is_resumed(site, tag):
    site.tag = tag
    site.script[PDPARAMS] = [truncates(1000)]
    assert is_whole(get())
    assert not any("Range" in headers for headers in site.asked("pdparams"))


def test_another_version_is_not_appended(site):
    site.tag = '"v0"'
    site.always[PDPARAMS] = lambda handler, content: truncates(200_000)(handler, content[::-1])
    refused("kept")
    site.always.clear()
    site.tag = TAG
    assert is_whole(get())
    assert site.asked("pdparams")[-1]["If-Range"] == '"v0"'


@pytest.mark.parametrize(
    "behaviour",
    [stalls, status(500), status(429, Retry_After="0"), status(416), truncates(0)],
)
def test_one_failure_is_tried_again(site, behaviour):
    site.script[PDPARAMS] = [behaviour]
    assert is_whole(get())


def test_waiting_as_long_as_asked_but_not_longer(site, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    site.script[PDPARAMS] = [status(503, Retry_After="7"), status(503, Retry_After="9999"), status(500)]
    assert is_whole(get())
    assert waits == [7, download.MAX_WAIT, download.BACKOFF * 4]


@pytest.mark.parametrize("to", ["SITE/elsewhere/blob", "/elsewhere/blob", "blob"])
def test_redirects_are_followed(site, to):
    site.files["blob"] = WEIGHTS
    site.script[PDPARAMS] = [redirects(to)]
    assert is_whole(get())


def test_chunks_need_no_length(site):
    site.always[PDPARAMS] = chunked
    assert is_whole(get())


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (status(404), rf"/albert/{PDPARAMS}: HTTP 404, there is no such file; another --source"),
        (status(403), "HTTP 403"),
        (status(500), "HTTP 500; try again, or give the files with --weights PATH, or try --random-weights"),
        (truncates(200_000), "kept, try again"),
        (stalls, "no answer in time; 65.5 kB are kept"),
        (without_length, "does not say how long the file is"),
        (redirects("file:///etc/hostname"), "redirects to file:///etc/hostname, which is not followed"),
        (redirects("ftp://127.0.0.1/x"), "redirects to ftp://127.0.0.1/x, which is not followed"),
        (redirects("http://[/"), "Invalid IPv6 URL"),
        (redirects(f"SITE/albert/{PDPARAMS}"), "more than 10 redirects"),
        (status(200, Content_Type="text/html; charset=utf-8"), "a web page came instead"),
        (lambda handler, content: handler.answer(200, b"\n<!DOCTYPE html><html>"), "a web page came instead"),
        (lambda handler, content: handler.answer(200, b""), "the file is empty"),
        (status(200, Content_Encoding="gzip"), "compressed on the way"),
        (status(200, X_Linked_Etag=f'"{"0" * 64}"'), "does not match the published checksum"),
    ],
)
def test_failures_are_one_line_and_leave_no_half_file(site, monkeypatch, behaviour, message):
    monkeypatch.setattr(download, "ATTEMPTS", 2)
    site.always[PDPARAMS] = behaviour
    refused(message)
    site.always.clear()
    assert is_whole(get())


def test_the_published_checksum_is_checked(site):
    checksum = hashlib.sha256(WEIGHTS).hexdigest()
    site.files["blob"] = WEIGHTS
    site.always[PDPARAMS] = lambda handler, content: handler.answer(
        302, b"", Location="blob", X_Linked_Etag=f'"{checksum}"'
    )
    assert is_whole(get())
    site.files["blob"] = WEIGHTS[::-1]
    (fetch.cache_folder() / "paddlenlp" / VARIANT / "model_state.pdparams").unlink()
    refused("does not match the published checksum")


def test_nobody_answers(site, monkeypatch):
    monkeypatch.setenv("ALBERT_PADDLENLP_MIRROR", "http://user:secret@127.0.0.1:9/albert")
    message = refused("cannot fetch http://127.0.0.1:9/.*: no connection; .*--weights PATH.*--random-weights")
    assert "secret" not in message


def test_too_little_space_is_known_before(site, monkeypatch):
    class Usage:
        free = 1000

    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: Usage)
    refused("No space left on device; free some, or name another cache folder with ALBERT_CACHE")


def test_the_disk_fills_up(site):
    folder = fetch.cache_folder() / "paddlenlp" / VARIANT
    folder.mkdir(parents=True)

    def fill(name: str, done: int, total: int | None) -> None:
        if name == "model_state.pdparams" and done == 0:
            raise OSError(28, "No space left on device")

    with pytest.raises(ExportError, match=r"No space left on device; free some"):
        fetch.fetch(VARIANT, progress=fill)
    assert is_whole(get())
