"""Trains models/python-albert, a small ALBERT that fills masks in sentences about Python, in half an hour.

One layer, repeated twelve times, learns masked words from the documentation that comes with Python and numpy.
No model made by it is in the repository yet:

    python tools/train_python_albert.py --output models/python-albert --minutes 25

The clock decides how many steps each stage gets, and the log says how many it got; ``--steps`` with these
numbers repeats a run on the same texts, up to rounding.
"""

import argparse
import hashlib
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
# Threads that wait for work sleep: spinning takes the core from whoever else is busy here.
os.environ.setdefault("KMP_BLOCKTIME", "0")

import numpy as np
import paddle
from python_albert.batches import Masker, make_rows
from python_albert.corpus import documents
from python_albert.folder import half, load, save
from python_albert.held_out import write_held_out
from python_albert.initial import initial_values
from python_albert.network import Network
from python_albert.training import STAGES, evaluate, held_out_batches, train
from python_albert.vocabulary import PAD, train_tokenizer

from albert_runtime.config import AlbertConfig

ROOT = Path(__file__).resolve().parent.parent
CONFIG = AlbertConfig(
    vocab_size=4096,
    embedding_size=128,
    hidden_size=256,
    num_hidden_layers=12,
    num_hidden_groups=1,
    inner_group_num=1,
    num_attention_heads=8,
    intermediate_size=1024,
    hidden_act="gelu_new",
    max_position_embeddings=128,
    type_vocab_size=2,
    layer_norm_eps=1e-12,
    pad_token_id=PAD,
    padding_idx=None,
    add_pooling_layer=False,
    initializer_range=0.02,
)


def main() -> None:
    """Read the texts, train, measure on held-out files, write the folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=ROOT / "models" / "python-albert")
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument(
        "--steps", type=lambda text: [int(n) for n in text.split(",")], help="one number a stage"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peak-rate", type=float, default=2e-3)
    parser.add_argument("--resume", type=Path, help="go on from the weights in this folder")
    parser.add_argument("--first-stage", type=int, default=1, help="stages before it are left out")
    options = parser.parse_args()
    begin = time.monotonic()

    def log(line: str) -> None:
        print(f"{time.monotonic() - begin:6.0f} s  {line}", flush=True)

    texts = documents()
    kept = [text for text in texts if not text.held_out]
    digest = hashlib.sha256("\n".join(p for text in texts for p in text.paragraphs).encode()).hexdigest()
    for source in sorted({text.source for text in texts}):
        words = sum(len(p.split()) for text in kept if text.source == source for p in text.paragraphs)
        log(f"{source}: {words} words to train on")
    tokenizer = train_tokenizer((p for text in kept for p in text.paragraphs), CONFIG.vocab_size)
    longest = CONFIG.max_position_embeddings
    rows = make_rows(kept, tokenizer, longest // 2)
    long_rows = make_rows(kept, tokenizer, longest)
    held_out = make_rows([text for text in texts if text.held_out], tokenizer, longest // 2)
    log(f"{rows.tokens} tokens to train on, {held_out.tokens} held out, sha256 of the text {digest}")

    rng = np.random.default_rng(options.seed)
    paddle.seed(options.seed)
    only_masks = Masker(tokenizer, word=0.15, kept=0.0, changed=0.0)
    if options.resume is None:
        network = Network(CONFIG, initial_values(CONFIG, rows, rng))
    else:
        network = Network(CONFIG, load(options.resume, CONFIG))
    log("starting values ready")
    made = train(
        network,
        rows,
        long_rows,
        held_out,
        Masker(tokenizer),
        only_masks,
        seed=options.seed,
        minutes=options.minutes,
        steps=options.steps,
        peak_rate=options.peak_rate,
        stages=STAGES[options.first_stage - 1 :],
        checkpoint=lambda values: save(options.output, CONFIG, values, tokenizer),
        log=log,
    )
    final = half(network.values())
    save(options.output, CONFIG, final, tokenizer)
    write_held_out(options.output / "held-out.jsonl", texts, tokenizer, options.seed)
    log(f"steps in each stage: {','.join(map(str, made))}")
    network = Network(CONFIG, final)
    whole = held_out_batches(held_out, only_masks, held_out.tokens * 2)
    for passes in (1, 2, 3, 4, 6, 8, 10, 12):
        log(f"held out, rounded to float16, {passes:2} passes: {evaluate(network, whole, passes)}")


if __name__ == "__main__":
    main()
