"""Long texts of the tokenizers that are made here are cut by the runtime, and keep their tokens."""

import pytest

from albert_runtime.text import cutting
from albert_runtime.text.cutting import Cutter

from .folders import CHINESE_TEXTS, ENGLISH_TEXTS, VOCAB, loaded, make

TEXT = (
    " ".join([*ENGLISH_TEXTS, *CHINESE_TEXTS, "one two  three\nfour \u6211\u6211\u6211 5 6, 7 \u0926 a"]) * 3
)


@pytest.mark.parametrize("kind", ["albert_spiece", "bare", "chinese"])
@pytest.mark.parametrize("choices", [{}, {"lowercase": False}, {"keep_accents": True}])
def test_the_pieces_have_the_tokens_of_the_whole(request, folder, monkeypatch, kind, choices):
    monkeypatch.setattr(cutting, "SHORT", 1)
    vocabulary = VOCAB if kind == "chinese" else request.getfixturevalue(kind)
    tokenizer = loaded(make(folder(vocabulary), **choices))
    tokenizer.no_truncation()
    pieces = [TEXT[start:stop] for start, stop in Cutter(tokenizer)._pieces(TEXT)]
    assert len(pieces) > 20
    found = [token for piece in pieces for token in tokenizer.encode(piece, add_special_tokens=False).ids]
    assert found == tokenizer.encode(TEXT, add_special_tokens=False).ids
