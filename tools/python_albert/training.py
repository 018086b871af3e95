"""The training loop: few passes of the shared layer first, all of them at the end."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import paddle
from paddle.nn import functional as F

from .batches import Ids, MaskedBatch, Masker, Rows, epoch, every_place
from .network import Float, Network
from .vocabulary import PAD

BATCH_TOKENS = 1024
LAST_RATE = 2e-5
EVALUATED_TOKENS = 12_000


@dataclass(frozen=True)
class Stage:
    """Every step draws its number of passes from ``passes``; the stage gets ``share`` of the time.

    In ``everywhere`` of the steps every word is predicted, from the others (Network.scores_unseen), in the
    other steps the masked ones.
    ``learned``: gradients go through so many passes at the end, or through all; what comes before takes a
    third of the time, and the layer still learns to go on from the states that many passes leave.
    ``rest`` weighs the penalty on late passes that still change the states (Network.unrest): twelve passes
    then answer as three do, instead of drifting away.
    """

    passes: tuple[int, ...]
    share: float
    warm_up: int
    everywhere: float = 0.0
    learned: int | None = None
    rest: float = 0.0


STAGES = (
    Stage((1, 2, 2, 4), 0.40, 200, everywhere=1.0, learned=2),
    Stage((2, 3, 4, 6, 9, 12), 0.20, 30, everywhere=0.3, learned=3),
    Stage((3, 4, 6, 8, 10, 12), 0.25, 30, everywhere=0.15, learned=3, rest=3.0),
    Stage((12,), 0.15, 30, learned=4, rest=3.0),
)


@dataclass(frozen=True)
class Score:
    """Mean cross-entropy in nats, share of places where the best or one of the five best pieces is right."""

    loss: float
    first: float
    in_five: float
    places: int

    def __str__(self) -> str:
        return f"loss {self.loss:.3f}, best right {self.first:.1%}, in best five {self.in_five:.1%}"


def network_scores(
    network: Network, batch: MaskedBatch, passes: int, *, unseen: bool = False, learned: int | None = None
) -> paddle.Tensor:
    """Scores [N, V] at the chosen places by Network.scores_unseen or Network.scores."""
    mask = ((batch.ids == PAD) * np.float32(-10000.0)).astype(np.float32)[:, None, None, :]
    chosen = paddle.to_tensor(batch.chosen)
    inputs = paddle.to_tensor(batch.ids), paddle.to_tensor(mask), chosen, passes
    run = network.scores_unseen if unseen else network.scores
    return run(*inputs, learned=learned)


def held_out_batches(rows: Rows, masker: Masker, tokens: int = EVALUATED_TOKENS) -> list[MaskedBatch]:
    """The same masked batches at every call."""
    rng = np.random.default_rng(12345)
    batches: list[MaskedBatch] = []
    for ids in epoch(rows, BATCH_TOKENS, rng):
        if sum(batch.ids.size for batch in batches) >= tokens:
            break
        batches.append(masker.mask(ids, rng))
    return batches


@paddle.no_grad()
def evaluate(network: Network, batches: Sequence[MaskedBatch], passes: int) -> Score:
    """How well the network fills the masks of held-out batches."""
    loss, first, five, places = 0.0, 0, 0, 0
    for batch in batches:
        scores = network_scores(network, batch, passes).numpy().astype(np.float64)
        own = np.take_along_axis(scores, batch.wanted[:, None], axis=1)
        top = scores.max(1, keepdims=True)
        loss += float((np.log(np.exp(scores - top).sum(1, keepdims=True)) + top - own).sum())
        rank = (scores > own).sum(1)
        first, five, places = first + int((rank < 1).sum()), five + int((rank < 5).sum()), places + len(rank)
    return Score(loss / places, first / places, five / places, places)


def train(
    network: Network,
    rows: Rows,
    long_rows: Rows,
    held_out: Rows,
    masker: Masker,
    only_masks: Masker,
    *,
    seed: int,
    minutes: float,
    steps: Sequence[int] | None,
    stages: Sequence[Stage],
    peak_rate: float,
    checkpoint: Callable[[dict[str, Float]], None],
    log: Callable[[str], None],
) -> list[int]:
    """Train in place; the steps made in each stage. ``steps`` repeats a run that the clock had divided.

    The stages divide the minutes by their shares, and the rate falls over all of them.

    The last stage sees ``long_rows``, so that every position has been learned.
    """
    rng = np.random.default_rng(seed)
    optimizer = paddle.optimizer.AdamW(
        learning_rate=0.0,
        beta2=0.98,
        epsilon=1e-6,
        weight_decay=0.01,
        apply_decay_param_fun=lambda name: name.endswith("weight") and "norm" not in name,
        grad_clip=paddle.nn.ClipGradByGlobalNorm(1.0),
        parameters=list(network.parameters.values()),
    )
    evaluation = held_out_batches(held_out, only_masks)
    made, before, whole = [], 0.0, sum(stage.share for stage in stages)
    for number, stage in enumerate(stages):
        share = stage.share / whole
        begin, step, losses, unrest = time.monotonic(), 0, [], [0.0]
        batches = _forever(long_rows if number == len(stages) - 1 else rows, rng)
        while True:
            limit = steps[number] if steps is not None else 0
            done = (time.monotonic() - begin) / (60 * minutes * share) if not limit else step / limit
            if done >= 1.0 or (limit and step >= limit):
                break
            warm = min(1.0, (step + 1) / stage.warm_up)
            rate = LAST_RATE + (peak_rate - LAST_RATE) * (1.0 - before - share * done)
            optimizer.set_lr(warm * rate)
            ids = next(batches)
            unseen = rng.random() < stage.everywhere
            batch = every_place(ids) if unseen else masker.mask(ids, rng)
            passes = int(rng.choice(stage.passes))
            scores = network_scores(network, batch, passes, unseen=unseen, learned=stage.learned)
            loss = F.cross_entropy(scores, paddle.to_tensor(batch.wanted))
            if not unseen:
                loss = loss + stage.rest * network.unrest
                unrest.append(float(network.unrest))
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
            losses.append(float(loss))
            step += 1
            if step % 100 == 0:
                seconds = time.monotonic() - begin
                recent = (
                    f"rate {rate:.1e} loss {np.mean(losses[-100:]):.3f} unrest {np.mean(unrest[-50:]):.3f}"
                )
                log(f"stage {number + 1} step {step} {seconds:.0f} s {recent}")
            if step % 400 == 0:
                passes = max(stage.passes)
                log(f"  held out, {passes} passes: {evaluate(network, evaluation, passes)}")
                checkpoint(network.values())
        made.append(step)
        before += share
        log(f"  stage {number + 1} held out, 12 passes: {evaluate(network, evaluation, 12)}")
        checkpoint(network.values())
    return made


def _forever(rows: Rows, rng: np.random.Generator) -> Iterator[Ids]:
    while True:
        yield from epoch(rows, BATCH_TOKENS, rng)
