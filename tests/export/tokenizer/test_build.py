"""tokenizer.json from what a checkpoint folder holds: options, special tokens, damaged files."""

import json
import sys

import pytest
import tokenizers

from albert_export.errors import ExportError
from albert_export.tokenizer import build
from albert_export.tokenizer.build import make_tokenizer
from albert_export.tokenizer.choices import Choices

from .sentencepiece_training import train

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["hello", "world", "caf", "##e", "cafe", ",", "\u6211", "\u4eec", "h", "##i"]
NUMBERS = [f"{n * n:,}, {n:,}, and" for n in range(300)]


@pytest.fixture(scope="session")
def spiece() -> bytes:
    return train(model_type="unigram", required_chars="<pad>")


def load(folder, **choices) -> tokenizers.Tokenizer:
    made = make_tokenizer(folder, Choices(**choices))
    assert made is not None
    return tokenizers.Tokenizer.from_str(made.json.decode())


def write_vocab(folder, tokens=(*SPECIALS, *WORDS)) -> None:
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")


def write_json(folder, name, values) -> None:
    (folder / name).write_text(json.dumps(values), encoding="utf-8")


def test_a_folder_without_tokenizer_files_has_none(tmp_path):
    assert make_tokenizer(tmp_path, Choices(lowercase=None)) is None
    assert make_tokenizer(tmp_path, Choices(lowercase=True)) is None


def test_english(tmp_path, spiece):
    (tmp_path / "spiece.model").write_bytes(spiece)
    tokenizer = load(tmp_path)
    assert [tokenizer.token_to_id(token) for token in ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")] == [
        0,
        1,
        2,
        3,
        4,
    ]
    pair = tokenizer.encode("The CAT", "the  Dog\u0301 ")
    first, second = pair.tokens[1 : pair.tokens.index("[SEP]")], pair.tokens[pair.tokens.index("[SEP]") + 1 :]
    assert pair.tokens[0] == "[CLS]"
    assert "".join(first) == "\u2581the\u2581cat"
    assert "".join(second) == "\u2581the\u2581dog[SEP]"
    assert pair.type_ids == [0] * (len(first) + 2) + [1] * len(second)
    assert tokenizer.encode("").tokens == ["[CLS]", "[SEP]"]
    assert tokenizer.encode(" \u2003\n").tokens == ["[CLS]", "[SEP]"]
    assert tokenizer.decode(tokenizer.encode("``the'' cat").ids).replace(" ", "").endswith("thecat")


def test_the_english_mask_takes_its_space_along(tmp_path, spiece):
    (tmp_path / "spiece.model").write_bytes(spiece)
    tokenizer = load(tmp_path)
    assert tokenizer.encode("the [MASK] sat").ids == tokenizer.encode("the[MASK]sat").ids
    assert 4 in tokenizer.encode("the [MASK] sat").ids


def test_written_out_control_pieces_are_text(tmp_path, spiece):
    """Full-width brackets become ASCII after the special tokens were looked for."""
    (tmp_path / "spiece.model").write_bytes(spiece)
    assert 0 not in load(tmp_path).encode("\uff1cpad\uff1e").ids


def test_a_digit_keeps_its_comma_apart(tmp_path):
    (tmp_path / "spiece.model").write_bytes(train(NUMBERS, model_type="unigram", vocab_size=80))
    tokenizer = load(tmp_path)
    joined = [token for token in tokenizer.get_vocab() if token[-1:] == "," and token[-2:-1].isdigit()]
    assert joined  # the model has such pieces
    assert not {*tokenizer.encode("1,000, 2,000, 3,").tokens} & {*joined}


@pytest.mark.parametrize("lowercase", [True, False])
def test_options_of_the_english_tokenizer(tmp_path, spiece, lowercase):
    (tmp_path / "spiece.model").write_bytes(spiece)
    write_json(tmp_path, "tokenizer_config.json", {"do_lower_case": not lowercase, "keep_accents": True})
    assert (1 in load(tmp_path).encode("CAT").ids) is lowercase
    assert (1 in load(tmp_path, lowercase=lowercase).encode("CAT").ids) is not lowercase
    assert 1 in load(tmp_path).encode("c\u00e1t").ids


def test_chinese_keeps_case_unless_told(tmp_path):
    write_vocab(tmp_path)
    tokenizer = load(tmp_path)
    assert tokenizer.encode("hello,\u6211\u4eec").tokens == [
        "[CLS]",
        "hello",
        ",",
        "\u6211",
        "\u4eec",
        "[SEP]",
    ]
    assert tokenizer.encode("Hello caf\u00e9").tokens == ["[CLS]", "[UNK]", "[UNK]", "[SEP]"]
    assert load(tmp_path, lowercase=True).encode("Hello caf\u00e9").tokens == [
        "[CLS]",
        "hello",
        "cafe",
        "[SEP]",
    ]
    pair = tokenizer.encode("hello", "hi [MASK]")
    assert pair.tokens == ["[CLS]", "hello", "[SEP]", "h", "##i", "[MASK]", "[SEP]"]
    assert pair.type_ids == [0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("config", "folds"),
    [
        ({}, False),
        ({"do_lower_case": True}, True),
        ({"tokenizer_class": "AlbertTokenizer"}, False),
        ({"tokenizer_class": "BertTokenizer"}, True),
        ({"tokenizer_class": "BertTokenizer", "do_lower_case": False}, False),
    ],
)
def test_case_of_a_chinese_folder(tmp_path, config, folds):
    write_vocab(tmp_path)
    write_json(tmp_path, "tokenizer_config.json", config)
    assert ("hello" in load(tmp_path).encode("HELLO").tokens) is folds
    assert "hello" not in load(tmp_path, lowercase=False).encode("HELLO").tokens


def test_special_tokens_come_from_the_folder(tmp_path):
    write_vocab(tmp_path, ["<p>", "[UNK]", "<s>", "[SEP]", "[MASK]", "a"])
    # <oov> is in no vocabulary: PaddleNLP's AlbertTokenizer writes such names beside Chinese ones.
    tokens = {"pad_token": "<p>", "cls_token": {"content": "<s>", "lstrip": False}, "unk_token": "<oov>"}
    write_json(tmp_path, "special_tokens_map.json", tokens)
    tokenizer = load(tmp_path)
    assert tokenizer.encode("a b<p>").ids == [2, 5, 1, 0, 3]


@pytest.mark.parametrize("form", ["added_tokens.json", "added_tokens_decoder"])
def test_added_tokens_follow_the_vocabulary(tmp_path, form):
    write_vocab(tmp_path)
    count = len(SPECIALS) + len(WORDS)
    if form == "added_tokens.json":
        write_json(tmp_path, form, {"<e1>": count, "<e2>": count + 1})
    else:
        entry = {"content": "<e1>", "lstrip": False, "normalized": False, "special": True}
        entries = {
            "0": {"content": "[PAD]"},
            str(count): entry,
            str(count + 1): {**entry, "content": "<e2>"},
        }
        write_json(tmp_path, "tokenizer_config.json", {form: entries})
    assert load(tmp_path).encode("hello<e2><e1>").ids == [2, 5, count + 1, count, 3]
    assert load(tmp_path, vocab_size=count + 2)
    with pytest.raises(ExportError, match=rf"vocab.txt has token ids up to {count + 1}"):
        load(tmp_path, vocab_size=count + 1)


def test_a_tokenizer_json_is_used_as_it_is(tmp_path):
    write_vocab(tmp_path)
    own = make_tokenizer(tmp_path, Choices(lowercase=True)).json
    (tmp_path / "tokenizer.json").write_bytes(own + b"\n")
    assert make_tokenizer(tmp_path, Choices()).json == own + b"\n"
    # An explicit choice is carried out from the vocabulary beside it, else in the file.
    assert "[UNK]" in load(tmp_path, lowercase=False).encode("HELLO").tokens
    (tmp_path / "vocab.txt").unlink()
    assert "[UNK]" in load(tmp_path, lowercase=False).encode("HELLO").tokens


def test_the_last_of_two_equal_lines_counts(tmp_path):
    (tmp_path / "vocab.txt").write_bytes("\r\n".join([*SPECIALS, "a", "b", "a"]).encode())
    assert load(tmp_path).encode("a b").ids == [2, 7, 6, 3]


MODELS = [
    (b"", "it holds no pieces"),
    (b"<!DOCTYPE html><html>", "is no SentencePiece model"),
    (b"\0" * 40, "not a protocol buffer"),
    (b"\xff" * 40, "cut short, or not a protocol buffer"),
    (b"\x0a\xff\xff\xff\xff\x0f", "cut short, or not a protocol buffer"),
    (b"\x0a\x02\x0a\x05", "cut short, or not a protocol buffer"),
    (b"\x0a\x03\x0a\x01\xff", "no UTF-8 text"),
    (b"\x0a\x02\x18\x63", "of an unknown type"),
    (b"\x0a\x05\x15\x00\x00\xc0\x7f", "no finite number"),
    (b"\x0a\x03\x0a\x01a", "0 unknown-word pieces"),
    (b"\x0a\x02\x08\x01", "fields of another type"),
    (b"\x0a\x05\x0a\x01u\x18\x02\x12\x02\x18\x02", "a BPE model, not a unigram one"),
    (b"\x0a\x05\x0a\x01u\x18\x02\x1a\x06\x12\x04\xff\xff\xff\x00", "character map is damaged"),
    (b"\x0a\x05\x0a\x01u\x18\x02\x1a\x0b\x12\x09\x04\0\0\0\0\0\0\0\xff", "character map is damaged"),
    (b"\x0a\x05\x0a\x01u\x18\x02", r"lacks the special tokens \[CLS\], \[SEP\]"),
]


@pytest.mark.parametrize(("data", "message"), MODELS)
def test_spiece_that_is_not_one(tmp_path, data, message):
    (tmp_path / "spiece.model").write_bytes(data)
    with pytest.raises(ExportError, match=rf"spiece\.model .*{message}") as caught:
        make_tokenizer(tmp_path, Choices())
    assert "\n" not in str(caught.value)


def test_a_cut_or_changed_spiece_never_escapes(tmp_path, spiece):
    """Whatever the damage: a tokenizer or an ExportError."""
    path = tmp_path / "spiece.model"
    for cut in range(0, len(spiece), 997):
        path.write_bytes(spiece[:cut])
        with pytest.raises(ExportError):
            make_tokenizer(tmp_path, Choices())
    for at in range(0, 2000, 37):
        changed = bytearray(spiece)
        changed[at] ^= 0xFF
        path.write_bytes(changed)
        try:
            make_tokenizer(tmp_path, Choices())
        except ExportError as error:
            assert "\n" not in str(error)


def test_a_bpe_model_is_refused(tmp_path):
    (tmp_path / "spiece.model").write_bytes(train(model_type="bpe"))
    with pytest.raises(ExportError, match=r"spiece\.model .* is a BPE model, not a unigram one"):
        make_tokenizer(tmp_path, Choices())


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("vocab.txt", b"", "is empty"),
        ("vocab.txt", b"\xff\xfe", "not UTF-8 text"),
        ("vocab.txt", b"<html>\nlogin\n", r"lacks the special tokens \[UNK\], \[CLS\]"),
        ("tokenizer.json", b"", "is no tokenizer"),
        ("tokenizer.json", b"{}", "is no tokenizer"),
        ("tokenizer.json", b"\xff", "is no tokenizer"),
        ("tokenizer_config.json", b"{", "not readable as JSON"),
        ("special_tokens_map.json", b"[]", "holds no JSON object"),
        ("tokenizer_config.json", b'{"do_lower_case": "yes"}', "neither true nor false"),
        ("added_tokens.json", b'{"<e>": "x"}', "added tokens in its JSON files are malformed"),
        ("added_tokens.json", b'{"<e>": 99999999}', r"has token ids up to 99999999, .* has only 4194304"),
        ("tokenizer_config.json", b'{"additional_special_tokens": 5}', "are malformed"),
        ("config.json", b'{"vocab_size": 14}', r"vocab\.txt has token ids up to 14, .* has only 14"),
        ("model_config.json", b'{"init_args": [{"vocab_size": 14}]}', r"vocab\.txt has token ids up to 14"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, data, message):
    write_vocab(tmp_path)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ExportError, match=message) as caught:
        make_tokenizer(tmp_path, Choices())
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_absurd_sizes_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("albert_export.tokenizer.settings._MAX_BYTES", 10)
    write_vocab(tmp_path)
    with pytest.raises(ExportError, match=r"vocab\.txt is far larger"):
        make_tokenizer(tmp_path, Choices())


def test_without_the_library(tmp_path, monkeypatch):
    write_vocab(tmp_path)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ExportError, match=r"pip install 'albert-runtime\[export\]'"):
        make_tokenizer(tmp_path, Choices())
    assert build.TOKENIZER_NAME == "tokenizer.json"
