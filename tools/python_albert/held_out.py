"""Writes the test set kept beside the model: held-out sentences with one word replaced by [MASK]."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from .corpus import Document

LINES = 500
FEWEST, MOST = 8, 60


def write_held_out(path: Path, documents: Sequence[Document], tokenizer: Tokenizer, seed: int) -> None:
    """Write JSON lines {"text": the text with one [MASK], "word": the masked word}.

    The word is a single piece of the vocabulary, letters only, chosen uniformly from the text.
    """
    rng = np.random.default_rng(seed)
    texts = [text for document in documents if document.held_out for text in document.paragraphs]
    lines: list[str] = []
    for index in rng.permutation(len(texts)):
        text = texts[index]
        encoding = tokenizer.encode(text, add_special_tokens=False)
        if not FEWEST <= len(encoding.ids) <= MOST:
            continue
        places = [place for place in range(len(encoding.ids)) if _is_word(encoding.tokens, place)]
        if places:
            place = int(rng.choice(places))
            start, end = encoding.offsets[place]
            start += text[start:end].startswith(" ")
            entry = {"text": f"{text[:start]}[MASK]{text[end:]}", "word": text[start:end].lower()}
            lines.append(json.dumps(entry))
        if len(lines) == LINES:
            break
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _is_word(tokens: Sequence[str], place: int) -> bool:
    after = tokens[place + 1 : place + 2]
    whole = not after or not after[0][0].isalnum()
    return tokens[place].startswith("▁") and tokens[place][1:].isalpha() and whole
