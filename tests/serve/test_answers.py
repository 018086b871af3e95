"""/predict and /v1/embeddings answer as the Predictor's own methods do."""

import base64
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from .server import PATIENCE

TEXTS = ["Anna Smith lives in Paris.", "who", "a b a b, who?"]
CONTEXT = "Anna Smith lives in Paris. " * 12
MASKED = ["Anna [MASK] in Paris", "[MASK] a [MASK]"]

# model, the request, what the Predictor says
CASES = [
    ("sentiment", {"texts": TEXTS}, lambda p: p.classify(TEXTS)),
    ("sentiment", {"text": TEXTS[0]}, lambda p: p.classify(TEXTS[:1])),
    ("sentiment", {"text": TEXTS[0], "top_k": 2}, lambda p: p.classify(TEXTS[:1], top_k=2)),
    ("sentiment", {"texts": [["who", "Anna"], "b"]}, lambda p: p.classify([("who", "Anna"), "b"])),
    ("sentiment", {"text": CONTEXT, "truncate": True}, lambda p: p.classify([CONTEXT], truncate=True)),
    ("entities", {"texts": TEXTS}, lambda p: p.tag(TEXTS)),
    ("filler", {"texts": MASKED, "top_k": 3}, lambda p: p.fill_mask(MASKED, top_k=3)),
    ("reader", {"question": "who", "context": CONTEXT}, lambda p: [p.answer("who", CONTEXT)]),
    ("chooser", {"prompt": "Anna", "choices": TEXTS}, lambda p: [p.choose("Anna", TEXTS)]),
    ("embedder", {"texts": TEXTS}, lambda p: p.embed(TEXTS).tolist()),
    # Every option of the Python methods.
    ("sentiment", {"text": "who", "activation": "none"}, lambda p: p.classify(["who"], activation="none")),
    ("words", {"text": CONTEXT}, lambda p: [p.tag(CONTEXT)]),
    ("words", {"text": CONTEXT, "stride": 5}, lambda p: [p.tag(CONTEXT, stride=5)]),
    ("words", {"text": CONTEXT, "truncate": True}, lambda p: [p.tag(CONTEXT, truncate=True)]),
    (
        "filler",
        {"texts": MASKED, "targets": ["who", "a"]},
        lambda p: p.fill_mask(MASKED, targets=["who", "a"]),
    ),
    ("filler", {"texts": MASKED, "targets": "who"}, lambda p: p.fill_mask(MASKED, targets="who")),
    (
        "reader",
        {"question": "who", "context": CONTEXT, "stride": 9, "max_tokens": 2, "allow_no_answer": True},
        lambda p: [p.answer("who", CONTEXT, stride=9, max_tokens=2, allow_no_answer=True)],
    ),
    (
        "embedder",
        {"texts": TEXTS, "pooling": "cls", "normalize": False, "dimensions": 4},
        lambda p: p.embed(TEXTS, pooling="cls", normalize=False, dimensions=4).tolist(),
    ),
]


@pytest.mark.parametrize(("model", "asked", "expected"), CASES)
def test_predict(client, predictors, model, asked, expected):
    name = "embedder 2" if model == "embedder" else model
    answer = client.post("/predict", json={"model": model, **asked})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert (found["model"], found["task"]) == (model, predictors[name].task)
    if model == "embedder":  # shortest digits of a float32
        assert np.array_equal(np.float32(found["answers"]), np.float32(expected(predictors[name])))
    else:
        assert found["answers"] == expected(predictors[name])


def test_predict_joined_with_others(client, server, predictors):
    texts = [" ".join(["who", "a", "Paris."][: 1 + index % 3] * (1 + index % 9)) for index in range(60)]
    expected = predictors["sentiment"].classify(texts)

    def ask(text):
        with httpx.Client(base_url=server.url, timeout=PATIENCE) as own:
            return own.post("/predict", json={"model": "sentiment", "text": text}).json()["answers"][0]

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, texts)) == expected


@pytest.mark.parametrize(
    ("model", "asked", "needle"),
    [
        ("sentiment", {}, "text or texts, not nothing"),
        ("sentiment", {"text": "a", "texts": ["b"]}, "not text, texts"),
        ("reader", {"text": "a"}, "context and question"),
        ("chooser", {"prompt": "a"}, "choices and prompt"),
        ("filler", {"text": "nothing to fill"}, "[MASK]"),
        ("entities", {"texts": [["a", "b"]]}, "row 0"),
        ("entities", {"text": "a", "top_k": 2}, "top_k"),
        ("sentiment", {"text": "who", "activation": "tanh"}, "activation must be one of"),
        ("sentiment", {"text": "who", "prompt_name": "query"}, "no option 'prompt_name'"),
        ("embedder", {"text": "who", "prompt_name": "query"}, "embedder has no prompts"),
        ("sentiment", {"text": "who " * 80}, "64; shorten it or set truncate"),
        ("sentiment", {"texts": ["a", "who " * 80]}, "row 1"),
    ],
)
def test_predict_says_what_is_wrong(client, model, asked, needle):
    answer = client.post("/predict", json={"model": model, **asked})
    assert answer.status_code == 422
    assert needle in answer.json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"text": ""}',
        b'{"text": 1}',
        b'{"texts": []}',
        b'{"text": "\xff"}',
        b'{"text": "\\ud800"}',
        b'{"text": "a", "top_k": 0}',
        b'{"text": "a", "top_k": 1e400}',
        b'{"texts": [["a", "b", "c"]]}',
        b'{"text":' + b"[" * 100_000,
    ],
)
def test_predict_without_its_json(client, body):
    answer = client.post("/predict", content=body)
    assert answer.status_code == 400, answer.text
    assert "JSON" in answer.json()["error"]


def test_a_model_has_to_be_named_where_there_are_several(client):
    answer = client.post("/predict", json={"text": "a"})
    assert answer.status_code == 404 and "sentiment" in answer.json()["error"]


def test_the_only_model_need_not_be_named(make_app, predictors):
    app = make_app("sentiment")
    answer = app.send("POST", "/predict", json={"text": "who"})
    assert answer.json()["answers"] == predictors["sentiment"].classify(["who"])


# /v1/embeddings


def vectors(answer, count, model="embedder"):
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["object"] == "list" and body["model"] == model
    assert [item["index"] for item in body["data"]] == list(range(count))
    assert all(item["object"] == "embedding" for item in body["data"])
    return [item["embedding"] for item in body["data"]]


def test_embeddings(client, predictors):
    expected = predictors["embedder 2"].embed(TEXTS)
    floats = client.post("/v1/embeddings", json={"model": "embedder", "input": TEXTS})
    assert np.array_equal(np.float32(vectors(floats, 3)), expected)
    tokens = predictors["embedder 2"].pack(TEXTS).tokens  # those computed: special ones too
    assert floats.json()["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    asked = {"model": "embedder", "input": TEXTS, "encoding_format": "base64", "dimensions": 12, "user": "u"}
    raw = [base64.b64decode(text) for text in vectors(client.post("/v1/embeddings", json=asked), 3)]
    assert np.array_equal(np.array([np.frombuffer(one, "<f4") for one in raw]), expected)
    one = client.post("/v1/embeddings", json={"model": "embedder", "input": TEXTS[1]})
    assert np.array_equal(np.float32(vectors(one, 1)[0]), predictors["embedder 2"].embed(TEXTS[1]))


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"model": "nobody"}, 404, "not_found"),
        ({"model": "sentiment"}, 422, "invalid"),
        ({"encoding_format": "hex"}, 422, "invalid"),
        ({"dimensions": 13}, 422, "invalid"),
        ({"dimensions": 0}, 400, "malformed"),
        ({"input": [1, "a"]}, 422, "invalid"),
        ({"input": []}, 400, "malformed"),
        ({"input": "who " * 80}, 422, "invalid"),
    ],
)
def test_embeddings_tell_errors_as_openai_does(client, changes, status, code):
    answer = client.post("/v1/embeddings", json={"model": "embedder", "input": "a", **changes})
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["code"] == code and error["type"] == "invalid_request_error" and error["message"]


def test_the_list_of_models(client):
    found = client.get("/v1/models").json()
    assert found["object"] == "list"
    names = [
        "embedder",
        "sentiment",
        "entities",
        "reader",
        "filler",
        "chooser",
        "words",
        "relevance",
        "sentences",
    ]
    assert [item["id"] for item in found["data"]] == names
    assert all(item["object"] == "model" and item["created"] > 1e9 for item in found["data"])


@pytest.mark.parametrize("prompt", [None, "query", "document"])
def test_embeddings_of_a_sentence_model(client, predictors, prompt):
    """Its own vectors, cut where its folder cuts texts, with the prompt that is named."""
    texts = [*TEXTS, CONTEXT]
    asked = {"model": "sentences", "input": texts, "dimensions": 7, "prompt_name": prompt}
    found = np.float32(vectors(client.post("/v1/embeddings", json=asked), len(texts), "sentences"))
    expected = predictors["sentences"].embed(texts, prompt_name=prompt)
    assert np.array_equal(found, expected) and found.shape == (len(texts), 7)
    assert np.array_equal(found, predictors["sentences"].embed(texts)) == (prompt != "query")


def test_a_sentence_model_tells_its_prompts_and_its_output(client):
    asked = {"model": "sentences", "input": "who", "prompt_name": "other"}
    answer = client.post("/v1/embeddings", json=asked)
    assert answer.status_code == 422
    assert "sentences has the prompts query, document" in answer.json()["error"]["message"]
    outputs = client.get("/v2/models/sentences").json()["outputs"]
    assert outputs[-1] == {"name": "sentence_embedding", "datatype": "FP32", "shape": [-1, 7]}
    assert client.post("/predict", json={"model": "sentences", "text": CONTEXT}).status_code == 200


def test_predict_with_a_prompt(client, predictors):
    answer = client.post("/predict", json={"model": "sentences", "text": "who", "prompt_name": "query"})
    expected = predictors["sentences"].embed("who", prompt_name="query")
    assert np.array_equal(np.float32(answer.json()["answers"][0]), expected)


def test_embeddings_of_token_ids(client, predictors):
    """One list is one input, lists are several; as OpenAI's and LangChain's clients send them."""
    rows = [[2, 5, 6, 3], [2, 7, 3]]
    expected = predictors["embedder 2"].embed(rows)
    for given, wanted in ((rows, expected), (rows[0], expected[:1]), ([rows[1]], expected[1:])):
        answer = client.post("/v1/embeddings", json={"model": "embedder", "input": given})
        assert np.array_equal(np.float32(vectors(answer, len(wanted))), wanted)
    assert answer.json()["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    for given, needle in (([[2, 50]], "input_ids holds 50"), ([[]], "row 0"), ([[5] * 65], "set truncate")):
        answer = client.post("/v1/embeddings", json={"model": "embedder", "input": given})
        assert answer.status_code == 422 and needle in answer.json()["error"]["message"]


@pytest.mark.parametrize("model", ["embedder", "sentences"])
@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_fewer_dimensions(client, predictors, model, encoding):
    """The first numbers of each vector, scaled to length 1."""
    predictor = predictors["embedder 2" if model == "embedder" else model]
    whole = predictor.embed(TEXTS)[:, :5]
    asked = {"model": model, "input": TEXTS, "dimensions": 5, "encoding_format": encoding, "user": "u"}
    found = vectors(client.post("/v1/embeddings", json=asked), 3, model)
    if encoding == "base64":
        found = [np.frombuffer(base64.b64decode(text), "<f4") for text in found]
    expected = whole / np.linalg.norm(whole, axis=1, keepdims=True)
    np.testing.assert_allclose(np.array(found, np.float32), expected, atol=1e-6)


def test_usage_counts_what_is_computed(client, predictors):
    """With prompts, without what was cut."""
    for model, asked, rows in (
        ("sentences", {"prompt_name": "query"}, ["who lives: who"]),
        ("embedder", {"truncate": True}, None),
    ):
        text = "who" if rows else "who " * 100_000
        answer = client.post("/v1/embeddings", json={"model": model, "input": text, **asked})
        tokens = 64 if rows is None else predictors[model].pack(rows).tokens
        assert answer.json()["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}, answer.text


# /v1/rerank


@pytest.mark.parametrize("model", ["embedder", "relevance", "sentences"])
def test_rerank(client, predictors, model):
    predictor = predictors["embedder 2" if model == "embedder" else model]
    expected = predictor.rerank("who lives", TEXTS)
    asked = {"model": model, "query": "who lives", "documents": [TEXTS[0], {"text": TEXTS[1]}, TEXTS[2]]}
    answer = client.post("/v1/rerank", json=asked)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["model"] == model
    assert found["results"] == [{"index": one["index"], "relevance_score": one["score"]} for one in expected]
    rows = [("who lives", text) for text in TEXTS] if model == "relevance" else ["who lives", *TEXTS]
    if model != "sentences":
        assert found["usage"]["total_tokens"] == predictor.pack(rows).tokens
    best = client.post(
        "/v1/rerank", json={**asked, "top_n": 1, "return_documents": True, "max_tokens_per_doc": 9}
    )
    (first,) = best.json()["results"]
    assert first["document"] == {"text": TEXTS[expected[0]["index"]]}


@pytest.mark.parametrize(
    ("changes", "status", "needle"),
    [
        ({"model": "sentiment"}, 422, "has 3 labels; rerank needs"),
        ({"model": "reader"}, 422, "rerank is for"),
        ({"model": "nobody"}, 404, "nobody"),
        ({"documents": []}, 400, "documents"),
        ({"documents": [1]}, 400, "documents"),
        ({"query": ""}, 400, "query"),
        ({"top_n": 0}, 400, "top_n"),
        ({"documents": ["a", "who " * 80]}, 422, "row 1"),
        ({"documents": ["a"] * 1100}, 422, "takes 1024 at most"),
    ],
)
def test_rerank_says_what_is_wrong(client, changes, status, needle):
    asked = {"model": "embedder", "query": "who", "documents": ["a"], **changes}
    answer = client.post("/v1/rerank", json=asked)
    assert answer.status_code == status and needle in answer.json()["error"]["message"], answer.text
