"""Published files by name: which ones, from the cache or the network, and what may not be fetched."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from albert_export.errors import ExportError, UsageError
from albert_export.hub import fetch
from albert_export.variants import VARIANTS
from albert_runtime.artifact.config import AlbertConfig

from .published_site import (
    PDPARAMS,
    SPIECE,
    VARIANT,
    WEIGHTS,
    Handler,
    Site,
    get,
    honest,
    is_whole,
    refused,
    serving,
)


@pytest.fixture
def site(tmp_path, monkeypatch) -> Iterator[Site]:
    with serving(tmp_path / "cache", monkeypatch) as site:
        yield site


def test_a_variant_is_fetched_once(site):
    calls = []
    folder = fetch.fetch(VARIANT, progress=lambda *call: calls.append(call))
    assert is_whole(folder)
    assert folder.name == VARIANT
    assert (folder / "spiece.model").read_bytes() == SPIECE
    assert calls[0] == ("spiece.model", 0, len(SPIECE))
    assert calls[-1] == ("model_state.pdparams", len(WEIGHTS), len(WEIGHTS))
    assert [path for path, _ in site.requests] == [
        f"/albert/{VARIANT}.spiece.model",
        f"/albert/{VARIANT}.pdparams",
    ]
    calls.clear()
    assert fetch.fetch(VARIANT, progress=lambda *call: calls.append(call)) == folder
    assert (len(site.requests), calls) == (2, [])


def test_the_config_is_the_variant_s(site):
    folder = get("albert-chinese-tiny")
    values = json.loads((folder / "config.json").read_text())
    assert values["model_type"] == "albert"
    assert (
        AlbertConfig.from_dict(
            {name: values.get(name, 0) for name in VARIANTS["albert-chinese-tiny"].to_dict()}
        )
        == VARIANTS["albert-chinese-tiny"]
    )
    assert (folder / "vocab.txt").is_file()


HUB = f"/albert/{VARIANT}/resolve"


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_hugging_face(site, weights):
    site.files = {f"{HUB}/main/{name}": name.encode() for name in ("config.json", "tokenizer.json", weights)}
    folder = get(source="huggingface")
    assert (folder / weights).read_bytes() == weights.encode()
    assert {path.name for path in folder.iterdir() if path.suffix in (".json", ".bin", ".safetensors")} == {
        "config.json",
        "fetched.json",
        "tokenizer.json",
        weights,
    }
    count = len(site.requests)
    assert get(source="huggingface") == folder
    assert len(site.requests) == count  # what is not published is not asked for again


def test_revisions_are_kept_apart(site):
    for revision in ("main", "refs%2Fpr%2F1"):
        site.files |= {
            f"{HUB}/{revision}/{name}": revision.encode() for name in ("config.json", "model.safetensors")
        }
    folders = [get(source="huggingface"), get(source="huggingface", revision="refs/pr/1")]
    assert [(folder / "config.json").read_text() for folder in folders] == ["main", "refs%2Fpr%2F1"]
    assert {folder.name for folder in folders} == {VARIANT}


@pytest.mark.parametrize("variable", ["ALBERT_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline(site, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    refused(rf"{VARIANT} is not in the cache .*--weights PATH.*--random-weights")
    assert not site.requests
    monkeypatch.setenv(variable, "0")
    folder = get()
    monkeypatch.setenv(variable, "true")
    count = len(site.requests)
    assert get() == folder
    (folder / "model_state.pdparams").write_bytes(WEIGHTS[:-1])
    with pytest.raises(ExportError, match=r"is damaged in the cache"):
        get()
    assert len(site.requests) == count


@pytest.mark.parametrize("damage", ["changed", "gone", "no checksum", "no record"])
def test_a_damaged_cache_heals(site, damage):
    folder = get()
    weights = folder / "model_state.pdparams"
    match damage:
        case "changed":
            weights.write_bytes(WEIGHTS[::-1])
        case "gone":
            weights.unlink()
        case "no checksum":
            (folder / "model_state.pdparams.sha256").unlink()
        case _:
            (folder / "fetched.json").write_text("[]")
    assert is_whole(get())
    assert len(site.asked("pdparams")) == (1 if damage == "no record" else 2)
    assert len(site.asked("spiece.model")) == 1


def test_two_at_once_fetch_once(site):
    def slow(handler: Handler, content: bytes) -> None:
        time.sleep(0.2)
        honest(handler, content)

    site.always[PDPARAMS] = slow
    waited = []

    def note(name: str, done: int, total: int | None) -> None:
        waited.append((name, done, total))

    threads = [
        threading.Thread(
            target=fetch.fetch, args=(VARIANT,), kwargs={"progress": lambda *c: waited.append(c)}
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(site.asked("pdparams")) == 1
    assert ("waiting for another process", 0, None) in waited


def test_a_cache_that_cannot_be_written(site, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(ExportError, match=r"Not a directory; name another cache folder with ALBERT_CACHE"):
        get()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "albert-huge"}, "none of the published variants"),
        ({"source": "elsewhere"}, "there are paddlenlp and huggingface"),
        ({"revision": "main"}, "no revisions"),
        ({"variant": "albert-chinese-tiny", "source": "huggingface"}, "use --source paddlenlp"),
        ({"source": "huggingface", "revision": "../../x"}, "cannot be a revision"),
        ({"source": "huggingface", "revision": ""}, "cannot be a revision"),
    ],
)
def test_wrong_usage(site, options, message):
    with pytest.raises(UsageError, match=message):
        get(**options)
    assert not site.requests


def test_a_mirror_that_is_no_address(site, monkeypatch):
    monkeypatch.setenv("ALBERT_PADDLENLP_MIRROR", "file:///srv/models")
    with pytest.raises(UsageError, match="ALBERT_PADDLENLP_MIRROR is 'file:///srv/models'"):
        get()


@pytest.mark.parametrize(
    ("own", "xdg", "expected"),
    [
        ("/own", "/xdg", "/own"),
        ("", "/xdg", "/xdg/albert-runtime"),
        ("", "relative", "~/.cache/albert-runtime"),
    ],
)
def test_where_the_cache_is(monkeypatch, own, xdg, expected):
    monkeypatch.setenv("ALBERT_CACHE", own)
    monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    assert fetch.cache_folder() == Path(expected).expanduser()


def test_without_a_home_folder_the_cache_must_be_named(monkeypatch):
    monkeypatch.setenv("ALBERT_CACHE", "")
    monkeypatch.setattr(fetch, "cache_root", lambda: None)
    with pytest.raises(ExportError, match=r"no home folder .*ALBERT_CACHE"):
        fetch.cache_folder()
