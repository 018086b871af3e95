"""What else tokenizer_config.json can say, against transformers' AutoTokenizer."""

import json

import pytest

from albert_export.errors import ExportError

from .folders import (
    ENGLISH_TEXTS,
    VOCAB,
    assert_same,
    auto,
    loaded,
    make,
    saved,
    transformers,
)


def test_a_tokenizer_that_leaves_token_types_out(folder, albert_spiece):
    names = ["input_ids", "attention_mask"]
    path = folder(VOCAB, tokenizer_config={"tokenizer_class": "BertTokenizer", "model_input_names": names})
    assert_same(make(path), auto(path))
    assert not any(loaded(make(path)).encode("hello", "nba").type_ids)
    saved(path, auto(path))
    assert_same(make(path), auto(path))
    assert not any(loaded(make(path)).encode("hello", "nba").type_ids)


@pytest.mark.parametrize("file", [False, True])
def test_the_side_that_is_cut(folder, file):
    path = folder(VOCAB, tokenizer_config={"tokenizer_class": "BertTokenizer", "truncation_side": "left"})
    if file:
        saved(path, transformers.BertTokenizerFast.from_pretrained(str(path), truncation_side="left"))
    content = json.loads(make(path).json)
    assert content["truncation"]["direction"] == "Left"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, None),
        ({"model_max_length": 128}, 128),
        ({"model_max_length": 128.0}, 128),
        ({"max_len": 64}, 64),
        ({"model_max_length": None}, None),
        ({"model_max_length": 10**30}, 10**30),
    ],
)
def test_the_length_that_is_cut_to(folder, values, expected):
    path = folder(VOCAB, tokenizer_config={"tokenizer_class": "BertTokenizer", **values})
    assert make(path).max_length == expected
    if expected is not None:
        assert auto(path).model_max_length == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"tokenizer_class": "BertJapaneseTokenizer"},
            "names the tokenizer class BertJapaneseTokenizer, which",
        ),
        ({"tokenizer_class": "PreTrainedTokenizerFast"}, r"put its tokenizer\.json there"),
        ({"tokenizer_class": 5}, "tokenizer_class is 5, not the name of a class"),
        ({"split_special_tokens": True}, "split_special_tokens true cannot be kept"),
        ({"truncation_side": "middle"}, "not left or right"),
        ({"model_max_length": 0}, "give a whole number of at least 1"),
        ({"model_max_length": "512"}, "give a whole number of at least 1"),
        ({"model_max_length": True}, "give a whole number of at least 1"),
        ({"model_input_names": "input_ids"}, "model_input_names is no list"),
        ({"strip_accents": 1}, "strip_accents is neither true nor false"),
        ({"additional_special_tokens": "[X]"}, "malformed"),
        ({"additional_special_tokens": ["\ud800"]}, "malformed"),
        ({"added_tokens_decoder": {"40": "x"}}, "malformed"),
        ({"added_tokens_decoder": {"40": {"content": "x"}, "41": {"content": "x"}}}, "malformed"),
    ],
)
def test_what_cannot_be_kept_is_refused(folder, values, message):
    path = folder(VOCAB, tokenizer_config={"tokenizer_class": "BertTokenizer", **values})
    with pytest.raises(ExportError, match=message) as caught:
        make(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_class_that_reads_spiece_in_another_way_is_refused(folder, albert_spiece):
    path = folder(albert_spiece, tokenizer_config={"tokenizer_class": "T5Tokenizer"})
    with pytest.raises(ExportError, match=r"T5Tokenizer, which does not make its tokens from spiece\.model"):
        make(path)


def test_the_class_decides_between_two_vocabularies(folder, albert_spiece):
    folder(albert_spiece)
    path = folder(VOCAB, tokenizer_config={"tokenizer_class": "BertTokenizerFast"})
    assert_same(make(path), auto(path))
    path = folder(VOCAB, tokenizer_config={"tokenizer_class": "AlbertTokenizer"})
    assert_same(make(path), auto(path, use_fast=False), ENGLISH_TEXTS)


@pytest.mark.parametrize("values", [{"do_basic_tokenize": False}, {"never_split": ["NBA"]}])
def test_what_only_the_slow_form_reads_is_said(folder, values):
    path = folder(VOCAB, tokenizer_config={"tokenizer_class": "BertTokenizer", **values})
    made = make(path)
    assert_same(made, auto(path))
    (note,) = made.notes
    assert next(iter(values)) in note
