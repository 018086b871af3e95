"""The training loop: few passes of the shared layer at first, all of them at the end."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F
from transformers import AlbertForMaskedLM

from .batches import MaskedBatch, Masker, Rows, epoch
from .model import PASSES, scores

BATCH_TOKENS = 2048
EVALUATED_TOKENS = 16_000
WARM_UP_STEPS = 200
MATRIX_RATE, OTHER_RATE = 2e-3, 2e-3
LOGGED_STEPS = 250


@dataclass(frozen=True)
class Stage:
    """``steps`` training steps, each with a number of passes drawn from ``passes``."""

    passes: tuple[int, ...]
    steps: int


# Every pass costs the same, so most steps use few: the layer learns to refine the output of the pass before,
# and still does when the last stage runs it as often as inference will.
STAGES = (Stage((2, 3, 4, 5), 5000), Stage((4, 6, 8, 12), 1800), Stage((PASSES,), 1200))


@dataclass(frozen=True)
class Score:
    """Mean cross-entropy in nats, and the shares of masks whose best, or one of the best five, is right."""

    loss: float
    first: float
    in_five: float

    def __str__(self) -> str:
        return f"loss {self.loss:.3f}, best right {self.first:.1%}, in best five {self.in_five:.1%}"


def held_out_batches(rows: Rows, masker: Masker, tokens: int = EVALUATED_TOKENS) -> list[MaskedBatch]:
    """Masked batches, the same on each call."""
    rng = np.random.default_rng(12345)
    batches: list[MaskedBatch] = []
    for ids in epoch(rows, BATCH_TOKENS, rng):
        if sum(batch.ids.size for batch in batches) >= tokens:
            break
        batches.append(masker.mask(ids, rng))
    return batches


@torch.no_grad()
def evaluate(model: AlbertForMaskedLM, batches: Sequence[MaskedBatch], passes: int) -> Score:
    """How well the model fills the masks of held-out batches."""
    model.eval()
    loss, first, five, places = 0.0, 0, 0, 0
    for batch in batches:
        wanted = torch.from_numpy(batch.wanted)
        found = scores(model, torch.from_numpy(batch.ids), torch.from_numpy(batch.chosen), passes)
        loss += float(F.cross_entropy(found, wanted, reduction="sum"))
        rank = (found > found.gather(1, wanted[:, None])).sum(1)
        first, five, places = first + int((rank < 1).sum()), five + int((rank < 5).sum()), places + len(rank)
    model.train()
    return Score(loss / places, first / places, five / places)


def train(
    model: AlbertForMaskedLM,
    rows: Rows,
    long_rows: Rows,
    held_out: Rows,
    masker: Masker,
    only_masks: Masker,
    *,
    rng: np.random.Generator,
    stages: Sequence[Stage],
    checkpoint: Callable[[], None],
    log: Callable[[str], None],
) -> None:
    """Train in place. The last stage uses ``long_rows``, so that all positions are learned."""
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        inside = "albert_layer_groups" in name and parameter.ndim == 2
        (matrices if inside else others).append(parameter)
    optimizers: list[tuple[torch.optim.Optimizer, float]] = [
        # Muon: steps of equal size in all directions of a matrix (Jordan et al., 2024).
        (torch.optim.Muon(matrices, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"), MATRIX_RATE),
        (torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.01), OTHER_RATE),
    ]
    evaluation = held_out_batches(held_out, only_masks)
    total, step, begin, losses = sum(stage.steps for stage in stages), 0, time.monotonic(), []
    for number, stage in enumerate(stages, 1):
        batches = _forever(long_rows if number == len(stages) else rows, rng)
        for _ in range(stage.steps):
            factor = min(1.0, (step + 1) / WARM_UP_STEPS) * (1.0 - step / total)
            for optimizer, rate in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate * factor
            batch = masker.mask(next(batches), rng)
            passes = int(rng.choice(stage.passes))
            with torch.autocast("cpu", dtype=torch.bfloat16):
                found = scores(model, torch.from_numpy(batch.ids), torch.from_numpy(batch.chosen), passes)
            loss = F.cross_entropy(found.float(), torch.from_numpy(batch.wanted))
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer, _ in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            losses.append(float(loss.detach()))
            step += 1
            if step % LOGGED_STEPS == 0:
                pace = (time.monotonic() - begin) / step
                log(
                    f"step {step} of {total}, {pace:.3f} s a step, loss {np.mean(losses[-LOGGED_STEPS:]):.3f}"
                )
            if step % (4 * LOGGED_STEPS) == 0:
                most = max(stage.passes)
                log(f"  held out, {most} passes: {evaluate(model, evaluation, most)}")
                checkpoint()
        log(f"  after stage {number}, held out, {PASSES} passes: {evaluate(model, evaluation, PASSES)}")
        checkpoint()


def _forever(rows: Rows, rng: np.random.Generator) -> Iterator[np.ndarray]:
    while True:
        yield from epoch(rows, BATCH_TOKENS, rng)
