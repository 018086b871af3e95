"""The page for people: it shows what is served and answers without scripts, and runs nobody else's."""

import html
import re
import shutil
import subprocess

import pytest

HOSTILE = '<script>alert("1")</script>\'"&<img src=x onerror=alert(1)>'


@pytest.fixture(scope="module")
def app(make_app):
    return make_app("sentiment", "reader", "filler", "chooser", "embedder", "entities")


def post(app, model, text):
    return app.send("POST", "/", data={"model": model, "text": text})


def answer_of(page):
    found = re.search(r"<pre>(.*?)</pre>", page, re.DOTALL)
    return None if found is None else html.unescape(found[1])


def test_it_shows_the_models(app, predictors):
    answer = app.send("GET", "/")
    assert answer.status_code == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
    page = html.unescape(answer.text)
    for name in ("sentiment", "reader", "filler", "chooser", "embedder", "entities"):
        card = page.split(f'<section data-model="{name}/1">')[1].split("</section>")[0]
        config = predictors[name].manifest.config
        assert predictors[name].task in card and f"{config.parameter_count():,}" in card
        assert f"{config.max_position_embeddings} tokens" in card and "native fp32" in card
        assert f"<option>{name}</option>" in page or f"<option selected>{name}</option>" in page
    assert "bad, good, so-so" in page and answer_of(page) is None
    assert "$" not in page.split("<script")[0]  # every field is filled


def test_nothing_but_its_own_runs_in_it(app):
    first, second = app.send("GET", "/"), app.send("GET", "/")
    policy = first.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    nonce = re.search(r"script-src 'nonce-([^']+)'", policy)[1]
    assert re.findall(r"<script([^>]*)>", first.text) == [f' nonce="{nonce}"']
    assert re.findall(r"<style([^>]*)>", first.text) == [f' nonce="{nonce}"']
    assert nonce not in second.text
    assert not re.findall(r"\son\w+=|\sstyle=|https?://", first.text)
    assert first.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("model", "text", "needle"),
    [
        ("sentiment", "who lives", '"label"'),
        ("entities", "who lives in Paris", "["),
        ("reader", "who\nAnna Smith lives in Paris.\nb", '"start"'),
        ("filler", "Anna [MASK] in Paris", '"candidates"'),
        ("chooser", "who\r\nAnna\r\nSmith", '"choice"'),
        ("embedder", "who", "12 numbers"),
    ],
)
def test_the_form_answers(app, model, text, needle):
    answer = post(app, model, text)
    assert answer.status_code == 200
    assert needle in answer_of(answer.text)
    assert f"<option selected>{model}</option>" in answer.text
    assert html.unescape(re.search(r"<textarea[^>]*>(.*?)</textarea>", answer.text, re.DOTALL)[1]) == text


@pytest.mark.parametrize(
    ("model", "text", "status", "needle"),
    [
        ("sentiment", "who " * 80, 422, "64"),
        ("sentiment", "", 422, ""),
        ("sentiment", "   \n ", 422, ""),
        ("reader", "only a question", 422, ""),
        ("chooser", "only a prompt", 422, ""),
        ("filler", "nothing to fill", 422, "[MASK]"),
        ("nobody", "who", 404, "nobody"),
        (HOSTILE, "who", 404, "<script>"),
    ],
)
def test_the_form_says_what_is_wrong(app, model, text, status, needle):
    answer = post(app, model, text)
    assert answer.status_code == status and answer.headers["content-type"].startswith("text/html")
    assert needle in answer_of(answer.text)
    assert "<script>" not in answer.text


@pytest.mark.parametrize("model", ["sentiment", "entities", "reader", "filler", "chooser", "embedder"])
def test_a_hostile_text_is_a_text(app, model):
    text = f"{HOSTILE} [MASK]\n{HOSTILE} who\n</textarea></pre>{HOSTILE}"
    answer = post(app, model, text)
    assert answer.status_code in (200, 422)
    page = re.sub(r'<script nonce="[^"]+">', "", answer.text, count=1)
    assert "<script" not in page and "<img" not in page and page.count("</textarea>") == 1
    assert html.unescape(re.search(r"<textarea[^>]*>(.*?)</textarea>", page, re.DOTALL)[1]) == text


@pytest.mark.parametrize(
    "body", [b"", b"text=%FF%FE", b"text=%00", b"&" * 50, b"a=1&" * 50, b"text=who&text=a", b"\xff"]
)
def test_forms_that_are_none(app, body):
    answer = app.send(
        "POST", "/", content=body, headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert answer.status_code in (200, 400, 404, 422)


def test_a_server_that_is_not_ready(make_app):
    answer = post(make_app("embedder", load=False), "embedder", "who")
    assert answer.status_code == 503 and answer.headers["retry-after"]
    assert answer_of(answer.text) == "this server is loading embedder (0 of 1 models ready)"


def test_the_live_numbers(make_app):
    app = make_app("sentiment")
    app.send("POST", "/predict", json={"text": "who"})
    found = app.send("GET", "/status.json").json()
    assert found["ready"] is True
    (model,) = found["models"]
    assert (model["name"], model["version"]) == ("sentiment", "1")
    assert model["live"]["unanswered"] == 0 and model["live"]["p50_ms"] > 0
    assert model["live"]["p99_ms"] >= model["live"]["p50_ms"] and model["live"]["answers_per_second"] > 0
    page = app.send("GET", "/").text
    assert all(f'data-live="{name}"' in page for name in model["live"])


def test_a_model_with_a_hostile_name(artifacts, tmp_path):
    """A manifest's name is from whoever wrote it."""
    from albert_runtime.serve.http import page

    assert HOSTILE not in page._option(HOSTILE, chosen=False)
    assert "<img" not in page._fact("labels", HOSTILE)


CHROMIUM = shutil.which("chromium")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
@pytest.mark.parametrize("width", [400, 1280])
def test_a_browser_shows_it(server, tmp_path, width):
    """Its script runs under its policy, and nothing is wider than the window."""
    server.http.post("/predict", json={"model": "sentiment", "text": "who"})
    done = subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900"),
            *(f"--user-data-dir={tmp_path}", "--virtual-time-budget=5000", "--enable-logging=stderr"),
            *("--dump-dom", server.url),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Content Security Policy" not in done.stderr and "Uncaught" not in done.stderr
    card = done.stdout.split('data-model="sentiment/1"')[1].split("</section>")[0]
    shown = re.search(r'data-live="p50_ms">([^<]*)<', card)[1]
    assert float(shown) > 0
