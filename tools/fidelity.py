"""`make fidelity`: what reduced precision costs the small model that is kept here, on text it has not seen.

Every fifth token of the held-out sentences is masked, one at a time. Counted are the share found again and
the mean loss, -log of the true token's probability, by artifact and backend that runs it; in Markdown.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from albert_export import cli
from albert_export.precision import PRECISIONS
from albert_runtime import Predictor

CHECKPOINT = Path(__file__).resolve().parents[1] / "models" / "python-albert"
# Of the fp32 artifact; the engine converts its weights as it packs them.
CONVERTED = ("bf16", "int8")
STRIDE = 5


@dataclass(frozen=True)
class Masked:
    """Rows of token ids, each with one token masked: at which column, and what it was."""

    rows: list[list[int]]
    columns: list[list[int]]
    tokens: NDArray[np.int64]


@dataclass(frozen=True)
class Found:
    """How one Predictor did: its first choice for each mask, and the loss there."""

    first: NDArray[np.int64]
    loss: NDArray[np.float64]


def main() -> int:
    """Export, ask everybody, print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for precision in PRECISIONS:
            flags = [] if precision == "fp32" else [f"--{precision}"]
            if cli.main([str(CHECKPOINT), "-o", name, "--quiet", *flags]) != 0:
                return 1
        masked = mask_tokens(Tokenizer.from_file(str(folder / f"{CHECKPOINT.name}.tokenizer.json")))
        results = {key: ask(predictor, masked) for key, predictor in predictors(folder)}
    print_table(results, masked)
    return 0


def mask_tokens(tokenizer: Tokenizer) -> Masked:
    """Every fifth token of the held-out sentences, [CLS] and [SEP] left out, in a row of its own."""
    mask = tokenizer.token_to_id("[MASK]")
    rows: list[list[int]] = []
    columns: list[list[int]] = []
    tokens: list[int] = []
    for line in (CHECKPOINT / "held-out.jsonl").read_text(encoding="utf-8").splitlines():
        sentence = json.loads(line)
        ids = tokenizer.encode(sentence["text"].replace("[MASK]", sentence["word"])).ids
        for column in range(1 + len(tokens) % STRIDE, len(ids) - 1, STRIDE):
            rows.append([*ids[:column], mask, *ids[column + 1 :]])
            columns.append([column])
            tokens.append(ids[column])
    return Masked(rows, columns, np.array(tokens))


def predictors(folder: Path) -> Iterator[tuple[tuple[str, str, str], Predictor]]:
    """((artifact, backend, what it computes in), Predictor)."""
    for artifact, precision in PRECISIONS.items():
        stem = folder / (CHECKPOINT.name if artifact == "fp32" else f"{CHECKPOINT.name}-{artifact}")
        for backend in precision.backends:
            predictor = Predictor(stem, backend=backend)
            yield (artifact, backend, str(predictor.info().get("computes", artifact))), predictor
        for computes in CONVERTED if artifact == "fp32" else ():
            yield (artifact, "native", computes), Predictor(stem, precision=computes)


def ask(predictor: Predictor, masked: Masked, rows_at_once: int = 256) -> Found:
    """First choices and losses, some rows at a time."""
    first, loss = [], []
    for start in range(0, len(masked.rows), rows_at_once):
        part = slice(start, start + rows_at_once)
        answer = predictor.run(
            masked.rows[part], outputs=["prediction_scores"], positions=masked.columns[part]
        )
        scores = answer["prediction_scores"].astype(np.float64)
        scores -= scores.max(axis=1, keepdims=True)
        first.append(scores.argmax(axis=1))
        true = np.take_along_axis(scores, masked.tokens[part, None], axis=1)[:, 0]
        loss.append(np.log(np.exp(scores).sum(axis=1)) - true)
    return Found(np.concatenate(first), np.concatenate(loss))


def print_table(results: dict[tuple[str, str, str], Found], masked: Masked) -> None:
    """One line each, beside the difference from the engine in fp32."""
    exact = results["fp32", "native", "fp32"]
    print(f"{len(masked.rows):,} masks in {CHECKPOINT.name}'s held-out sentences.\n")
    print("| artifact | backend | computes | found | points lost | loss | more | other first choice |")
    print("|---|---|---|---:|---:|---:|---:|---:|")
    for (artifact, backend, computes), found in results.items():
        right, reference = (100 * np.mean(one.first == masked.tokens) for one in (found, exact))
        loss, before = found.loss.mean(), exact.loss.mean()
        other = 100 * np.mean(found.first != exact.first)
        print(
            f"| {artifact} | {backend} | {computes} | {right:.2f} % | {reference - right:.2f} "
            f"| {loss:.4f} | {loss - before:+.4f} | {other:.2f} % |"
        )


if __name__ == "__main__":
    sys.exit(main())
