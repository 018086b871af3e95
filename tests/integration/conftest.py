"""Checkpoints of transformers and what is exported of them, each once per session."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from albert_runtime import Predictor

from .checkpoints import TOKENIZERS, Both, make_model

MakeBoth = Callable[..., Both]


@pytest.fixture(scope="session")
def both(tmp_path_factory: pytest.TempPathFactory, export_artifact: Callable[..., Path]) -> MakeBoth:
    """both(class_name, tokenizer="pieces", **config) -> Both; ``tokenizer`` is one of TOKENIZERS."""
    pytest.importorskip("torch").set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its imports, which are not ours to mend
        pytest.importorskip("transformers")
    tokenizers: dict[str, Any] = {}
    made: dict[str, Both] = {}

    def make(class_name: str, tokenizer: str = "pieces", **config: Any) -> Both:
        key = repr((class_name, tokenizer, config))
        if key not in made:
            if tokenizer not in tokenizers:
                tokenizers[tokenizer] = TOKENIZERS[tokenizer](tmp_path_factory.mktemp("tokenizer"))
            model = make_model(class_name, tokenizers[tokenizer], config)
            folder = tmp_path_factory.mktemp("checkpoint") / "model"
            model.save_pretrained(folder)
            tokenizers[tokenizer].save_pretrained(folder)
            ours = Predictor(export_artifact(folder), backend="native", num_threads=1)
            made[key] = Both(ours, model, tokenizers[tokenizer])
        return made[key]

    return make
