"""Whether texts lose case and accents, against transformers' AutoTokenizer of the same folder."""

import json
import unicodedata

import pytest

from .folders import (
    CHINESE_TEXTS,
    CONFIG,
    ENGLISH_TEXTS,
    VOCAB,
    assert_same,
    auto,
    loaded,
    make,
    transformers,
)


@pytest.mark.parametrize("name", ["BertTokenizer", "BertTokenizerFast"])
@pytest.mark.parametrize("place", ["config", "tokenizer_config"])
def test_the_class_that_any_file_names(folder, name, place):
    values = {"tokenizer_class": name, **(CONFIG if place == "config" else {})}
    path = folder(VOCAB, **{place: values})
    made = make(path)
    assert_same(made, auto(path))
    assert loaded(made).encode("Hello NBA \u6211").tokens[1:-1] == ["hello", "nba", "\u6211"]
    rule = f"vocab.txt, folds case (the rule of BertTokenizer, named in {place}.json), strips accents"
    assert made.origin == rule
    # The class is in the file; whose the weights are does not matter.
    assert make(path, hugging_face=False).json == made.json


def test_without_a_class_the_weights_decide(folder):
    path = folder(VOCAB)
    made = make(path)
    assert_same(made, transformers.BertTokenizer.from_pretrained(str(path)))
    assert "BertTokenizer's rule: no file names a class, and the weights are Hugging Face's" in made.origin
    paddle = make(path, hugging_face=False)
    assert loaded(paddle).encode("Hello NBA nba").tokens[1:-1] == ["Hello", "NBA", "nba"]
    assert (
        "keeps case (PaddleNLP's rule: no file names a class, and the weights are PaddleNLP's)"
        in paddle.origin
    )


@pytest.mark.parametrize("strip", [True, False, None])
@pytest.mark.parametrize("lower", [True, False, None])
def test_strip_accents(folder, strip, lower):
    options = {"strip_accents": strip, "do_lower_case": lower}
    options = {name: value for name, value in options.items() if value is not None}
    path = folder(VOCAB, tokenizer_config={"tokenizer_class": "BertTokenizer", **options})
    made = make(path)
    assert_same(made, auto(path))
    # The slow form composes a text first, the fast one and PaddleNLP's do not.
    composed = [unicodedata.normalize("NFC", text) for text in CHINESE_TEXTS]
    assert_same(made, auto(path, use_fast=False), composed)
    keeps = loaded(make(path, keep_accents=True))
    drops = loaded(make(path, keep_accents=False))
    assert keeps.encode("caf\u00e9").tokens[1:-1] == ["caf\u00e9"]
    assert drops.encode("caf\u00e9").tokens[1:-1] == ["cafe"]


def test_strip_accents_null_is_as_if_left_out(folder):
    values = {"tokenizer_class": "BertTokenizer", "strip_accents": None, "tokenize_chinese_chars": None}
    path = folder(VOCAB, tokenizer_config=values)
    expected = loaded(make(path)).encode(CHINESE_TEXTS[1]).ids
    del values["tokenize_chinese_chars"]  # transformers takes a null here for false, as if it had been meant
    assert expected == auto(folder(VOCAB, tokenizer_config=values))(CHINESE_TEXTS[1])["input_ids"]


@pytest.mark.parametrize("keep", [True, False])
def test_accents_of_the_english_tokenizer(folder, albert_spiece, keep):
    path = folder(albert_spiece, tokenizer_config={"keep_accents": keep})
    oracle = auto(path, use_fast=False)
    assert_same(make(path), oracle, ENGLISH_TEXTS)
    (path / "tokenizer_config.json").write_text(json.dumps({"keep_accents": not keep}))
    assert_same(make(path, keep_accents=keep), oracle, ENGLISH_TEXTS)
    assert make(path, keep_accents=keep).origin.endswith("keeps accents" if keep else "strips accents")
