"""Fixtures for folders with a tokenizer."""

import json

import pytest

from .sentencepiece_training import TEXT, train

CONFIG = {"model_type": "albert", "vocab_size": 90}


@pytest.fixture(scope="session")
def albert_spiece() -> bytes:
    return train(model_type="unigram", required_chars="<pad>\u0926\u093f\u0932\u094d\u0940\u00e0")


@pytest.fixture(scope="session")
def bare() -> bytes:
    """Without pieces for special tokens; 0 is <unk>."""
    settings = {"pad_id": -1, "unk_id": 0, "control_symbols": []}
    return train(TEXT, model_type="unigram", required_chars="<pad>", **settings)


@pytest.fixture
def folder(tmp_path):
    def folder(vocabulary, **files):
        if isinstance(vocabulary, bytes):
            (tmp_path / "spiece.model").write_bytes(vocabulary)
        elif vocabulary:
            (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
        for name, values in {"config": CONFIG, **files}.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(values), encoding="utf-8")
        return tmp_path

    return folder
