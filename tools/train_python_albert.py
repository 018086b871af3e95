"""Trains models/python-albert, a small ALBERT that fills masks in sentences about Python.

One layer, repeated twelve times, learns masked words from Python's own documentation. Needs the development
environment and the documentation (on Debian, apt install python3-doc):

    python tools/train_python_albert.py

The same texts, seed and versions give the same model, up to rounding. ``--share 0.1`` runs a tenth of the
steps, to try a change of the recipe.
"""

import argparse
import dataclasses
import hashlib
import os
import time
from pathlib import Path

# Idle threads sleep: spinning would take CPU time from other processes.
os.environ.setdefault("KMP_BLOCKTIME", "0")

import numpy as np
import torch

from python_albert.batches import Masker, make_rows
from python_albert.corpus import documents
from python_albert.held_out import write_held_out
from python_albert.initial import set_initial_values
from python_albert.model import LONGEST, VOCABULARY, new_model, save
from python_albert.training import STAGES, evaluate, held_out_batches, train
from python_albert.vocabulary import train_tokenizer

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Read the texts, train, evaluate on held-out files, write the model's folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=ROOT / "models" / "python-albert")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="share of the steps to run (default: 1)")
    options = parser.parse_intermixed_args()
    begin = time.monotonic()

    def log(line: str) -> None:
        print(f"{time.monotonic() - begin:6.0f} s  {line}", flush=True)

    texts = documents()
    kept = [text for text in texts if not text.held_out]
    digest = hashlib.sha256("\n".join(p for text in texts for p in text.paragraphs).encode()).hexdigest()
    for source in sorted({text.source for text in texts}):
        words = sum(len(p.split()) for text in kept if text.source == source for p in text.paragraphs)
        log(f"{source}: {words} words to train on")
    tokenizer = train_tokenizer((p for text in kept for p in text.paragraphs), VOCABULARY)
    rows = make_rows(kept, tokenizer, LONGEST // 2)
    long_rows = make_rows(kept, tokenizer, LONGEST)
    held_out = make_rows([text for text in texts if text.held_out], tokenizer, LONGEST // 2)
    log(f"{rows.tokens} tokens to train on, {held_out.tokens} held out, sha256 of the text {digest}")

    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    only_masks = Masker(tokenizer, word=0.15, kept=0.0, changed=0.0)
    model = new_model()
    set_initial_values(model, rows, rng)
    log("starting values ready")
    train(
        model,
        rows,
        long_rows,
        held_out,
        Masker(tokenizer),
        only_masks,
        rng=rng,
        stages=[dataclasses.replace(stage, steps=int(stage.steps * options.share)) for stage in STAGES],
        checkpoint=lambda: save(options.output, model, tokenizer),
        log=log,
    )
    write_held_out(options.output / "held-out.jsonl", texts, tokenizer, options.seed)
    whole = held_out_batches(held_out, only_masks, held_out.tokens * 2)
    for passes in (1, 2, 3, 4, 6, 8, 10, 12):
        log(f"held out, {passes:2} passes: {evaluate(model, whole, passes)}")


if __name__ == "__main__":
    main()
