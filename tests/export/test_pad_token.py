"""The tokenizer's pad id counts where config.json has another, or none."""

import json

import pytest

from albert_export.cli import _parser
from albert_export.pad_token import tokenizer_pad_id
from albert_export.sources import resolve

WORDS = ["[CLS]", "a", "b", "[SEP]", "[MASK]", "[PAD]", "[UNK]"]


@pytest.mark.parametrize("named", [None, "[PAD]", {"content": "[PAD]"}, "<pad>", 5, "a"])
@pytest.mark.parametrize("config", [{}, {"pad_token_id": None}, {"pad_token_id": 0}, {"pad_token_id": 5}])
def test_the_pad_id_is_that_of_transformers_tokenizer(tmp_path, write_checkpoint, tiny, named, config):
    transformers = pytest.importorskip("transformers")
    write_checkpoint(tmp_path, tiny, **config)
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    values = {"tokenizer_class": "BertTokenizer"} | ({} if named is None else {"pad_token": named})
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(values))
    options = _parser().parse_args([str(tmp_path), "--random-weights"])
    source, _ = resolve(options, lambda name: tmp_path)
    expected = 1 if named == "a" else 5
    if named not in ("<pad>", 5):  # which the vocabulary lacks: transformers would pad with [UNK]
        theirs = transformers.BertTokenizer(str(tmp_path / "vocab.txt"), pad_token=WORDS[expected])
        assert theirs.pad_token_id == expected
    assert source.config.pad_token_id == expected
    noted = [note for note in source.notes if "pad_token_id" in note]
    assert len(noted) == (config.get("pad_token_id") != expected)


@pytest.mark.parametrize(
    ("tokenizer", "pad"),
    [
        ({"model": {"vocab": [["a", 0.0], ["<pad>", 0.0]]}}, 1),
        ({"model": {"vocab": {"a": 0, "[PAD]": 7}}}, 7),
        ({"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 9, "content": "[PAD]"}]}, 9),
        ({"model": {"vocab": {"a": 0, "$": 3}}, "padding": {"pad_id": 3, "pad_token": "$"}}, 3),
        ({"model": {"vocab": {"a": 0}}}, None),
        ({"model": {"vocab": [[], [["x"]], 3]}, "added_tokens": 3}, None),
        ({}, None),
    ],
)
def test_where_the_pad_token_may_be(tmp_path, tokenizer, pad):
    assert tokenizer_pad_id(json.dumps(tokenizer).encode(), [tmp_path]) == pad


@pytest.mark.parametrize("data", ["{", "[1]", "[" * 100_000, '{"pad_token": ["x"]}'])
def test_files_that_name_no_token(tmp_path, data):
    (tmp_path / "tokenizer_config.json").write_text(data)
    assert tokenizer_pad_id(b'{"model": {"vocab": {"[PAD]": 2}}}', [tmp_path]) == 2
