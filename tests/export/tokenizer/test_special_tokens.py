"""Special and added tokens, against transformers' tokenizers of the same folder."""

import pytest

from albert_export.errors import ExportError

from .folders import ENGLISH_TEXTS, SIZE, VOCAB, assert_same, auto, loaded, make


@pytest.mark.parametrize("form", ["nothing", "added_tokens", "decoder"])
def test_a_spiece_without_special_pieces(folder, bare, form):
    path = folder(bare)
    if form != "nothing":
        slow = auto(path, use_fast=False)
        if form == "decoder":
            slow.save_pretrained(str(path))
        else:
            first = slow.sp_model.get_piece_size()
            names = ["[MASK]", "[CLS]", "<pad>", "[SEP]"]
            ids = {name: first + place for place, name in enumerate(names)}
            path = folder(bare, added_tokens=ids)
    made = make(path)
    oracle = auto(path, use_fast=False)
    texts = [text for text in ENGLISH_TEXTS if "<e" not in text] + ["the cat [MASK] sat", "<pad> the"]
    assert_same(made, oracle, texts)
    ours = loaded(made)
    for token in ("[CLS]", "[SEP]", "[MASK]", "<pad>", "<unk>"):
        assert ours.token_to_id(token) == oracle.convert_tokens_to_ids(token)
    assert len(made.notes) == (4 if form == "nothing" else 0)


def test_special_tokens_that_the_model_has_no_rows_for(folder, bare):
    path = folder(bare)
    size = 33  # of the pieces alone
    with pytest.raises(ExportError, match=r"spiece\.model lacks the special tokens .*\[SEP\]"):
        make(path, vocab_size=size)
    with pytest.raises(ExportError, match=r"lacks the special tokens"):
        make(path, hugging_face=False)  # PaddleNLP adds none


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("gap", [0, 13])
def test_no_lone_space_mark_beside_added_tokens(folder, albert_spiece, special, gap):
    path = folder(albert_spiece)
    first = auto(path, use_fast=False).sp_model.get_piece_size() + gap
    files = {"added_tokens": {"<e1>": first, "<e2>": first + 1}}
    if special:
        files["special_tokens_map"] = {"additional_special_tokens": ["<e1>", "<e2>"]}
    path = folder(albert_spiece, **files)
    made = make(path)
    # transformers' fast form gives such tokens other ids after a gap, and space marks of their own.
    assert_same(made, auto(path, use_fast=False), ENGLISH_TEXTS)
    assert loaded(made).encode("the <e1> <e2>").ids[-3:-1] == [first, first + 1]


def test_tokens_added_to_a_saved_slow_tokenizer(folder, albert_spiece):
    path = folder(albert_spiece)
    slow = auto(path, use_fast=False)
    slow.add_tokens(["<e1>", "dog"])
    slow.add_special_tokens({"additional_special_tokens": ["<e2>"]})
    slow.save_pretrained(str(path))
    assert_same(make(path), auto(path, use_fast=False), ENGLISH_TEXTS)


@pytest.mark.parametrize("form", ["tokenizer_config", "special_tokens_map"])
def test_special_tokens_of_the_vocabulary_stay_whole(folder, form):
    """[unused1] is a line of the vocabulary, <e1> follows it."""
    names = {"tokenizer_config": {"tokenizer_class": "BertTokenizer"}}
    names[form] = {**names.get(form, {}), "additional_special_tokens": ["[unused1]", "<e1>", "covid"]}
    path = folder(VOCAB, **names)
    made = make(path)
    assert_same(made, auto(path))
    assert loaded(made).encode("[unused1] <e1>").ids[1:-1] == [5, len(VOCAB)]


def test_a_named_token_without_room_is_text(folder):
    values = {"tokenizer_class": "BertTokenizer", "additional_special_tokens": ["<e1>"]}
    made = make(folder(VOCAB, tokenizer_config=values), vocab_size=len(VOCAB))
    assert loaded(made).encode("<e1>").tokens[1:-1] == ["<", "e1", ">"]
    assert made.notes == ("<e1> is named as a special token but has no id; it is read as text",)


def test_a_special_that_the_task_does_not_need_may_be_missing(folder):
    vocabulary = [token for token in VOCAB if token not in ("[MASK]", "[PAD]")]
    path = folder(vocabulary, tokenizer_config={"tokenizer_class": "BertTokenizer"})
    full = make(path, vocab_size=len(vocabulary))
    assert loaded(full).token_to_id("[MASK]") is None
    assert loaded(full).encode("hello").ids == auto(path)("hello")["input_ids"]
    with pytest.raises(ExportError, match=r"vocab\.txt lacks the special tokens \[MASK\]"):
        make(path, vocab_size=len(vocabulary), needs_mask=True)
    # A model with rows for them has transformers' ids.
    assert_same(make(path, needs_mask=True), auto(path))


def test_which_of_two_files_names_a_token(folder):
    """special_tokens_map.json wins over tokenizer_config.json, unless that has an added_tokens_decoder."""
    config = {"tokenizer_class": "BertTokenizer", "cls_token": "hello"}
    path = folder(VOCAB, tokenizer_config=config, special_tokens_map={"cls_token": "nba"})
    assert_same(make(path), auto(path))
    assert loaded(make(path)).encode("").tokens[0] == "nba"
    entry = {"content": "[PAD]", "special": True}
    path = folder(VOCAB, tokenizer_config={**config, "added_tokens_decoder": {"0": entry}})
    assert_same(make(path), auto(path))
    assert loaded(make(path)).encode("").tokens[0] == "hello"


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ({"hello": 50}, r"give 'hello' the id 50, which is not the 6 of vocab\.txt"),
        ({"<e1>": 6}, r"give '<e1>' the id 6, which is another token's"),
        ({"<e1>": -1}, "malformed"),
        ({"<e1>": SIZE}, rf"vocab\.txt has token ids up to {SIZE}"),
        ({"": 40}, "malformed"),
        ({"<e1>": 40.5}, "malformed"),
        ({"<e1>": True}, "malformed"),
        ({"<e1>": float("inf")}, "malformed"),
        ({"<e1>": 40, "<e2>": 40}, "malformed"),
        ({"\ud800": 40}, "malformed"),
    ],
)
def test_ids_that_contradict_the_vocabulary(folder, tokens, message):
    with pytest.raises(ExportError, match=message):
        make(folder(VOCAB, added_tokens=tokens))


def test_two_equal_lines_leave_an_id_unused(folder):
    """The library counts tokens, not lines: an added token would get the id of the line before."""
    path = folder([*VOCAB, "hello"], added_tokens={"<e1>": len(VOCAB) + 1})
    assert loaded(make(path)).encode("<e1> hello").ids[1:-1] == [len(VOCAB) + 1, len(VOCAB)]
