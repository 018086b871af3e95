"""Checkpoints of transformers and what is exported of them, each once per run."""

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from albert_runtime import Predictor

from .checkpoints import TOKENIZERS, Both, make_model

MakeBoth = Callable[..., Both]


@pytest.fixture(scope="session")
def both(make_once: Callable[..., Path], export_artifact: Callable[..., Path]) -> MakeBoth:
    """both(class_name, tokenizer="pieces", **config) -> Both; ``tokenizer`` is one of TOKENIZERS."""
    pytest.importorskip("torch").set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its imports, which are not ours to mend
        pytest.importorskip("transformers")
    made: dict[str, Both] = {}

    def make(class_name: str, tokenizer: str = "pieces", **config: Any) -> Both:
        key = repr((class_name, tokenizer, config))
        if key not in made:
            write, read = TOKENIZERS[tokenizer]
            words = read(make_once(f"tokenizer-{tokenizer.replace(' ', '-')}", write))
            model = make_model(class_name, words, config)

            def save(folder: Path) -> None:
                model.save_pretrained(folder)
                words.save_pretrained(folder)

            named = hashlib.sha256(key.encode()).hexdigest()[:16]
            folder = make_once(f"checkpoint-{class_name}-{named}", save)
            ours = Predictor(export_artifact(folder), backend="native", num_threads=1)
            made[key] = Both(ours, model, words)
        return made[key]

    return make
