"""Entities: labels of tokens merged into stretches of the text."""

import numpy as np
import pytest
from tokenizers import Tokenizer

from ..scripted import answer_one, by_token, setting

BIO = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def tag(tokenizer_file, text, labelled, labels=BIO):
    """Tag a text whose tokens have the labels given; others have the first label."""
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    table = {
        tokenizer.token_to_id(piece): np.eye(len(labels))[labels.index(label)] * 9
        for piece, label in labelled.items()
    }
    made = setting(tokenizer_file, "token-classification", by_token(table, len(labels)), labels)
    return answer_one(made, "tag", text)


def plain(entities):
    return [(entity["label"], entity["text"], entity["start"], entity["end"]) for entity in entities]


def test_beginning_and_inside_make_one_entity(piece_tokenizer):
    found = tag(
        piece_tokenizer,
        "Anna  Smith lives in Paris.",
        {"▁anna": "B-PER", "▁smith": "I-PER", "▁paris": "B-LOC"},
    )
    assert plain(found) == [("PER", "Anna  Smith", 0, 11), ("LOC", "Paris", 21, 26)]
    probability = np.exp(9) / (np.exp(9) + 4)
    assert all(abs(entity["score"] - probability) < 1e-9 for entity in found)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("B-PER", "B-PER", ["Anna", "Smith"]),
        ("I-PER", "I-PER", ["Anna Smith"]),
        ("B-PER", "I-LOC", ["Anna", "Smith"]),
        ("B-PER", "O", ["Anna"]),
        ("O", "I-PER", ["Smith"]),
        ("S-PER", "I-PER", ["Anna", "Smith"]),
        ("E-PER", "I-PER", ["Anna", "Smith"]),
        ("B-PER", "E-PER", ["Anna Smith"]),
        ("B-PER", "L-PER", ["Anna Smith"]),
        ("I-PER", "U-PER", ["Anna", "Smith"]),
        ("PER", "PER", ["Anna Smith"]),
        ("PER", "LOC", ["Anna", "Smith"]),
    ],
)
def test_schemes(piece_tokenizer, first, second, expected):
    labels = tuple(dict.fromkeys(("O", first, second)))
    found = tag(piece_tokenizer, "in Anna Smith in", {"▁anna": first, "▁smith": second}, labels)
    assert [entity["text"] for entity in found] == expected


def test_entities_apart_stay_apart(piece_tokenizer):
    found = tag(piece_tokenizer, "Anna in Anna", {"▁anna": "I-PER"})
    assert plain(found) == [("PER", "Anna", 0, 4), ("PER", "Anna", 8, 12)]


def test_without_an_outside_every_word_has_its_label(piece_tokenizer):
    found = tag(piece_tokenizer, "Anna Smith lives", {"▁lives": "VERB"}, ("NOUN", "VERB"))
    assert plain(found) == [("NOUN", "Anna", 0, 4), ("NOUN", "Smith", 5, 10), ("VERB", "lives", 11, 16)]


def test_a_word_has_the_label_of_its_first_piece(piece_tokenizer):
    found = tag(piece_tokenizer, "bob x", {"▁b": "B-PER", "o": "B-LOC", "b": "B-LOC", "x": "B-LOC"})
    assert plain(found) == [("PER", "bob", 0, 3)]


@pytest.mark.parametrize("tokenizer", ["piece_tokenizer", "marked_tokenizer"])
@pytest.mark.parametrize(("text", "start"), [("kim", 0), ("in kim", 3), ("in (kim.", 4)])
def test_the_first_piece_may_be_a_mere_space_mark(request, tokenizer, text, start):
    """Models are trained to label it, wherever the word stands."""
    path = request.getfixturevalue(tokenizer)
    found = tag(path, text, {"▁": "B-PER", "k": "B-LOC", "i": "B-LOC", "(": "B-LOC"})
    words = ["kim"] if "(" not in text else ["(", "kim"]
    assert [entity["text"] for entity in found] == words
    assert (found[0]["label"], found[-1]["start"]) == ("PER", start)


def test_signs_are_words_of_their_own(piece_tokenizer):
    found = tag(piece_tokenizer, "(Anna).", {"a": "B-PER", ".": "B-LOC", "n": "B-PER"})
    assert plain(found) == [("PER", "Anna", 1, 5), ("LOC", ".", 6, 7)]


def test_offsets_count_characters_of_the_given_text(piece_tokenizer):
    text = "\U0001f600 \u00c0nna lives"  # a wide character, a letter that loses its accent
    found = tag(piece_tokenizer, text, {"▁anna": "B-PER", "▁lives": "B-LOC"})
    assert [text[entity["start"] : entity["end"]] for entity in found] == ["\u00c0nna", "lives"]


@pytest.mark.parametrize("word", ["Bo\u0301b", "Bob\u0301", "Bo\u0301\u0302b\u0301", "B\u200cob"])
def test_marks_belong_to_their_letters(piece_tokenizer, word):
    """The tokenizer drops accents that stand alone, as some systems write all of theirs."""
    text = f"in {word} a"
    found = tag(piece_tokenizer, text, {"▁b": "B-PER", "o": "B-LOC", "b": "B-LOC"})
    assert plain(found) == [("PER", word, 3, 3 + len(word))]


def test_vowel_signs_of_indic_scripts(tmp_path):
    from tokenizers import models, normalizers, pre_tokenizers, processors

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁\u0926", "\u093f", "\u0932", "\u094d", "\u0940"]
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=1))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    delhi = "\u0926\u093f\u0932\u094d\u0932\u0940"
    found = tag(tmp_path / "tokenizer.json", f"{delhi}, {delhi}", {"▁\u0926": "B-LOC"})
    assert plain(found) == [("LOC", delhi, 0, 6), ("LOC", delhi, 8, 14)]


def test_chinese_characters_are_words(tmp_path):
    from tokenizers import models, normalizers, pre_tokenizers, processors

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "巴", "黎", "人"]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    found = tag(tmp_path / "tokenizer.json", "人 巴黎人", {"巴": "B-LOC", "黎": "I-LOC"})
    assert plain(found) == [("LOC", "巴黎", 2, 4)]


@pytest.mark.parametrize("tokenizer", ["piece_tokenizer", "marked_tokenizer"])
def test_a_character_that_expands_to_several_words_is_one_entity(request, tokenizer):
    """U+FDFA becomes four words under NFKC and NFKD."""
    path = request.getfixturevalue(tokenizer)
    found = tag(path, "in \ufdfa Anna", {"<unk>": "B-PER", "\u2581": "B-PER", "\u2581anna": "B-LOC"})
    assert plain(found) == [("PER", "\ufdfa", 3, 4), ("LOC", "Anna", 5, 9)]
    found = tag(path, "\ufdfab Anna", {"<unk>": "B-LOC", "\u2581": "B-PER"})
    assert plain(found) == [("PER", "\ufdfab", 0, 2)]


def test_a_character_that_expands_to_several_word_pieces_is_one_entity(tmp_path):
    """U+33C2 becomes "a.m.", which is four words."""
    from tokenizers import models, normalizers, pre_tokenizers, processors

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", ".", "m", "in"]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    labelled = {"a": "B-PER", ".": "B-LOC", "m": "I-PER"}
    found = tag(tmp_path / "tokenizer.json", "in \u33c2 a.m", labelled)
    assert plain(found) == [
        ("PER", "\u33c2", 3, 4),
        ("PER", "a", 5, 6),
        ("LOC", ".", 6, 7),
        ("PER", "m", 7, 8),
    ]
