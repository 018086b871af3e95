"""Small SentencePiece models for tests."""

import io

import sentencepiece

TEXT = ["the cat sat on the mat", "a dog ran to the cat, and the dog sat", "1,000 cats and 2,000 dogs"] * 30


def train(text=TEXT, **options: object) -> bytes:
    """A small SentencePiece model with ALBERT's special pieces."""
    out = io.BytesIO()
    settings = {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "vocab_size": 50, "minloglevel": 2}
    settings["control_symbols"] = ["[CLS]", "[SEP]", "[MASK]"]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text), model_writer=out, hard_vocab_limit=False, **{**settings, **options}
    )
    return out.getvalue()
