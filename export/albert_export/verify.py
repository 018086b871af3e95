"""Verification: seeded batches, errors against eager Paddle in float64, the errors allowed, their record.

The reference uses the unrounded weights. A float32 artifact may differ by a small multiple of float32's own
errors, a 16-bit one must reach a cosine, an int8 one a median cosine. With rounded weights the errors after
each depth are recorded too: every layer uses the same rounded weights, so errors add up.

Outputs per token are compared where the mask is 1. A vector is one token's (of hidden states, at one depth),
or one row's where the output has one vector per row or one number per token. The errors of an output, over
all batches:
  max_abs      greatest |answer - reference|
  typical_abs  the median over vectors of each one's greatest error
  max_rel      max_abs over the greatest |reference|
  cosine       lowest cosine between an answer's vector and the reference's
  typical_cosine  the median of those cosines
A vector of zeros has no direction, one near zero any, and one of few columns little else than a size. So
errors within the tolerance count as a cosine of 1. A vector shorter than is typical of its output may have
the cosine that its error would give one of typical length. With few columns only sizes count: the greatest
error against the greatest vector and the typical against the typical, as cosines of errors of that share.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.artifact.tasks import HIDDEN_STATES, MULTIPLE_CHOICE, Head

from .errors import ExportError

Batch = dict[str, np.ndarray]
Answer = Mapping[str, np.ndarray]

# To compare depths, the batches run through the encoder alone.
ENCODER = Head(hidden_states=True)
REFERENCE, REFERENCE_TITLE = "paddle eager float64", "eager Paddle in float64"
# The backends compared with the reference. The engine must run; another backend is left out, with its reason
# recorded, if it reports that this processor cannot run the artifact.
ENGINE = "native"
BACKENDS = (ENGINE, "onnxruntime", "paddle")
TOLERANCE = 2e-5
# With outlier channels every float32 implementation exceeds that by far; then eager float32's own errors set
# the scale. In models that amplify rounding a few tokens are off a hundred times as much as most; by how much
# depends on the order of summation: on such a model the greatest errors of four float32 implementations
# differed by a factor of 5, the median ones by a fifth. So the bound is tight for the median error and loose
# for the greatest.
TYPICAL_FACTOR, GREATEST_FACTOR = 4.0, 16.0
# If eager float32 is off by more than this share of the greatest output, float32 is unusable.
_USABLE_REL = 1e-2
# Up to so many columns, a random error of an encoder's last state turns a few of many vectors far.
_FEW_COLUMNS = 16
_SEED = 20240229
# (padded width, lengths of the rows): one row longer than 64 tokens, and others of very different
# lengths. Fewer tokens would leave the greatest error of eager Paddle to chance.
_SHAPES = ((72, (67,)), (40, (40, 37, 33, 29, 22, 15)), (24, (24, 17, 8, 1)))


@dataclass(frozen=True)
class Errors:
    """How far one output of one backend is from the reference."""

    max_abs: float
    typical_abs: float
    max_rel: float
    cosine: float
    typical_cosine: float


# By backend and output, or depth.
Results = Mapping[str, Mapping[str, Errors]]

_INFINITE = Errors(float("inf"), float("inf"), float("inf"), -1.0, -1.0)


@dataclass(frozen=True)
class Bounds:
    """Absolute errors over all outputs: the greatest, and the median over vectors."""

    max_abs: float
    typical_abs: float

    def hold(self, errors: Errors) -> bool:
        """Whether errors are within these bounds."""
        return errors.max_abs <= self.max_abs and errors.typical_abs <= self.typical_abs

    def __str__(self) -> str:
        return f"{self.max_abs:.1e}, typical {self.typical_abs:.1e}"


@dataclass(frozen=True)
class Likeness:
    """The lowest cosine allowed: of any vector, or with ``typical`` of the median one."""

    cosine: float
    typical: bool = False

    def hold(self, errors: Errors) -> bool:
        """Whether the vectors are that close in direction."""
        return (errors.typical_cosine if self.typical else errors.cosine) >= self.cosine

    def __str__(self) -> str:
        return f"{'typical ' if self.typical else ''}cosine {self.cosine}"


Allowed = Bounds | Likeness


def make_batches(config: AlbertConfig, head: Head) -> list[Batch]:
    """The padded random batches of a model: int64 [1, 72], [6, 40] and [4, 24].

    They are narrower if the model has fewer positions. For multiple choice the same rows come as [1, 1, 72],
    [3, 2, 40] and [2, 2, 24].
    """
    generator = np.random.default_rng(_SEED)
    batches = []
    for full_width, full_lengths in _SHAPES:
        width = min(full_width, config.max_position_embeddings)
        lengths = np.minimum(full_lengths, width)[:, None]
        mask = (np.arange(width) < lengths).astype(np.int64)
        ids = generator.integers(0, config.vocab_size, mask.shape)
        types = generator.integers(0, config.type_vocab_size, mask.shape)
        if config.padding_idx is not None and width > 2:
            # An unmasked padding id: the one word whose lookup differs from its stored row.
            ids[0, 2] = config.padding_idx
        ids = np.where(mask == 1, ids, config.pad_token_id)
        batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types * mask}
        if head.task == MULTIPLE_CHOICE:
            choices = min(2, len(mask))
            batch = {name: values.reshape(-1, choices, width) for name, values in batch.items()}
        batches.append(batch)
    return batches


def answer_bytes(config: AlbertConfig, head: Head, depths: int) -> int:
    """Approximate size of the files that hold the reference and the answers of one backend at a time."""
    tokens = sum(width * len(lengths) for width, lengths in _SHAPES)
    columns = config.vocab_size if head.reads_vocabulary else config.hidden_size
    if head.hidden_states:
        columns += (config.num_hidden_layers + 1) * config.hidden_size
    return tokens * (columns * 12 + depths * config.hidden_size * 8)


def measure(
    references: Sequence[Answer], answers: Sequence[Answer], batches: Sequence[Batch], head: Head
) -> dict[str, Errors]:
    """Errors per output name; a wrong shape or a non-finite value counts as an infinite error."""
    return {
        name: _errors(
            [one[name] for one in references],
            [one.get(name) for one in answers],
            [batch["attention_mask"] == 1 if head.is_per_token(name) else None for batch in batches],
        )
        for name in references[0]
    }


def measure_depths(
    references: Sequence[Answer], answers: Sequence[Answer], batches: Sequence[Batch]
) -> dict[str, Errors]:
    """Errors of the hidden states by depth: ``references`` has an entry per depth, ``answers`` one output."""
    masks = [batch["attention_mask"] == 1 for batch in batches]
    return {
        depth: _errors(
            [one[depth] for one in references],
            [one[HIDDEN_STATES][:, :, int(depth)] for one in answers],
            masks,
        )
        for depth in references[0]
    }


def eager_float32_errors(
    references: Sequence[Answer], answers: Sequence[Answer], batches: Sequence[Batch], head: Head
) -> Bounds:
    """The greatest errors of eager float32 over the outputs; they set the tolerance of the backends.

    Raises ExportError if float32 is unusable for this model: then any answer would be within tolerance.
    """
    errors = measure(references, answers, batches, head).values()
    # An output near zero may be all rounding; its error then is within the tolerance, whatever its share.
    worst = max((one.max_rel for one in errors if not one.max_abs <= TOLERANCE), default=0.0)
    if not worst <= _USABLE_REL:
        raise ExportError(
            "float32 is not enough for this model: eager Paddle itself is off "
            f"by {worst:.0e} of the outputs' size; check its weights"
        )
    return Bounds(max(one.max_abs for one in errors), max(one.typical_abs for one in errors))


def tolerance(eager_float32: Bounds) -> Bounds:
    """The errors allowed, given the errors of eager Paddle in float32 on the same batches."""
    return Bounds(
        max(TOLERANCE, GREATEST_FACTOR * eager_float32.max_abs),
        max(TOLERANCE, TYPICAL_FACTOR * eager_float32.typical_abs),
    )


def record(
    eager_float32: Bounds,
    allowed: Allowed,
    backends: Results,
    depths: Results,
    left_out: Mapping[str, str],
) -> dict[str, object]:
    """The manifest's ``verification``.

    ``depths`` are the errors of rounded weights after each depth; ``left_out`` says why a backend that was
    not compared cannot run this artifact on this machine.
    """
    if isinstance(allowed, Bounds):
        limits = {"tolerance": allowed.max_abs, "typical_tolerance": allowed.typical_abs}
    else:
        limits = {"least_typical_cosine" if allowed.typical else "least_cosine": allowed.cosine}
    return {
        "reference": REFERENCE,
        **limits,
        "eager_float32_max_abs": eager_float32.max_abs,
        "eager_float32_typical_abs": eager_float32.typical_abs,
        "backends": plain(backends),
        **({"left_out": dict(left_out)} if left_out else {}),
        **({"depths": plain(depths)} if depths else {}),
    }


def plain(results: Results) -> dict[str, dict[str, dict[str, float]]]:
    """Results as JSON has them."""
    return {
        backend: {name: asdict(errors) for name, errors in outputs.items()}
        for backend, outputs in results.items()
    }


def save_answers(path: Path, answers: Sequence[Answer]) -> None:
    """Write the outputs of all batches to one .npz."""
    arrays: dict[str, Any] = {
        f"{index}/{name}": value for index, one in enumerate(answers) for name, value in one.items()
    }
    np.savez(path, **arrays)


def load_answers(path: Path) -> list[dict[str, np.ndarray]]:
    """Read the outputs that ``save_answers`` wrote."""
    answers: dict[int, dict[str, np.ndarray]] = {}
    with np.load(path) as stored:
        for key in stored:
            index, name = key.split("/", 1)
            answers.setdefault(int(index), {})[name] = stored[key]
    return [answers[index] for index in sorted(answers)]


def _errors(
    references: Sequence[np.ndarray],
    answers: Sequence[np.ndarray | None],
    masks: Sequence[np.ndarray | None],
) -> Errors:
    wants: list[np.ndarray] = []
    haves: list[np.ndarray] = []
    for reference, answer, mask in zip(references, answers, masks, strict=True):
        if answer is None or answer.shape != reference.shape:
            return _INFINITE
        want, have = _vectors(reference, mask), _vectors(answer, mask)
        if not (np.isfinite(want).all() and np.isfinite(have).all()):
            return _INFINITE
        wants.append(want)
        haves.append(have)
    off = [np.abs(have - want).max(axis=1) for want, have in zip(wants, haves, strict=True)]
    greatest_off = np.concatenate(off)
    max_abs = float(greatest_off.max())
    size = max(1e-30, *(float(np.abs(want).max()) for want in wants))
    return Errors(
        max_abs, float(np.median(greatest_off)), max_abs / size, *_cosines(wants, haves, greatest_off)
    )


def _cosines(
    wants: Sequence[np.ndarray], haves: Sequence[np.ndarray], greatest_off: np.ndarray
) -> tuple[float, float]:
    """The lowest and the typical cosine of vectors [N, columns] of each batch, as said at the top.

    ``greatest_off`` [N of all batches]: each vector's greatest error.
    """
    pairs = list(zip(wants, haves, strict=True))
    lengths = np.concatenate([np.linalg.norm(want, axis=1) for want in wants])
    errors = np.concatenate([np.linalg.norm(have - want, axis=1) for want, have in pairs])
    errors[greatest_off <= TOLERANCE] = 0.0
    typical = np.median(lengths)
    if max(want.shape[1] for want in wants) <= _FEW_COLUMNS:
        return (
            float(_cosine_of(errors.max(), lengths.max())),
            float(_cosine_of(np.median(errors), typical)),
        )
    norms = lengths * np.concatenate([np.linalg.norm(have, axis=1) for have in haves])
    products = np.concatenate([np.einsum("nh,nh->n", want, have) for want, have in pairs])
    alike = np.divide(products, norms, out=np.full_like(norms, -1.0), where=norms > 0)
    alike = np.where(lengths < typical, np.maximum(alike, _cosine_of(errors, typical)), alike)
    alike[errors == 0] = 1.0
    return float(alike.min()), float(np.median(alike))


def _cosine_of(error: np.ndarray, length: np.ndarray) -> np.ndarray:
    """The cosine that errors of these lengths, across its direction, give a vector of ``length``."""
    share = error / np.where(error == 0, 1.0, np.maximum(length, 1e-30))
    return 1.0 / np.sqrt(1.0 + share**2)


def _vectors(values: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Float64 [N, columns]: the unmasked tokens of an output per token, else its rows (no mask).

    An output with one number per token gives a vector per row, with masked places as 0; one with several
    vectors per token, such as hidden states, gives each of them.
    """
    if mask is not None:
        values = values[mask] if values.ndim > mask.ndim else np.where(mask, values, 0.0)
    return values.reshape(-1, values.shape[-1]).astype(np.float64)
