"""`make fidelity`: how much accuracy reduced precision costs the repository's small model, on unseen text.

Every fifth token of the held-out sentences is masked, one at a time. For each artifact and backend the
tables, in Markdown, give the share of tokens predicted correctly and the mean loss, -log of the true token's
probability. The model is measured as trained, and with outliers that do not change it in float32.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from tokenizers import Tokenizer

from albert_export import cli
from albert_export.precision import PRECISIONS
from albert_export.verify import BACKENDS
from albert_runtime import Predictor
from albert_runtime.errors import UnsupportedError
from albert_runtime.telemetry import turn_telemetry_off
from outliers import add_outliers

turn_telemetry_off()

import onnxruntime  # noqa: E402
from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: E402
from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: E402

CHECKPOINT = Path(__file__).resolve().parents[1] / "models" / "python-albert"
# The engine converts the fp32 artifact's weights to these when it packs them.
CONVERTED = ("bf16", "int8")
STRIDE = 5

# (artifact, backend, the precision it computes in)
Key = tuple[str, str, str]
# From token ids by row, and one column in each, to the scores [rows, V] there.
Scorer = Callable[[list[list[int]], list[list[int]]], NDArray[np.float32]]


@dataclass(frozen=True)
class Masked:
    """Rows of token ids, each with one token masked; the columns of the masks and the masked tokens."""

    rows: list[list[int]]
    columns: list[list[int]]
    tokens: NDArray[np.int64]


@dataclass(frozen=True)
class Found:
    """The first choice for each mask, and the loss there."""

    first: NDArray[np.int64]
    loss: NDArray[np.float64]


def main() -> int:
    """Export, score on all backends, print the tables."""
    with tempfile.TemporaryDirectory() as name:
        trained, stressed = Path(name) / "as-trained", Path(name) / "with-outliers"
        shutil.copytree(CHECKPOINT, trained)
        add_outliers(CHECKPOINT, stressed)
        for checkpoint, backends in ((trained, BACKENDS), (stressed, ("native", "onnxruntime"))):
            folder = checkpoint.with_name(f"{checkpoint.name}-exported")
            for precision in PRECISIONS:
                flags = [] if precision == "fp32" else [f"--{precision}"]
                if cli.main([str(checkpoint), "-o", str(folder), "--quiet", *flags]) != 0:
                    return 1
            masked = mask_tokens(Tokenizer.from_file(str(folder / f"{checkpoint.name}.tokenizer.json")))
            results = {key: ask(scorer, masked) for key, scorer in scorers(folder, checkpoint.name, backends)}
            print_table(checkpoint.name, results, masked)
    return 0


def mask_tokens(tokenizer: Tokenizer) -> Masked:
    """Mask every fifth token of the held-out sentences, except [CLS] and [SEP], each in a row of its own."""
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


def scorers(folder: Path, name: str, backends: Sequence[str]) -> Iterator[tuple[Key, Scorer]]:
    """All scorers with their keys."""
    for artifact in PRECISIONS:
        stem = folder / (name if artifact == "fp32" else f"{name}-{artifact}")
        for backend in backends:
            try:
                predictor = Predictor(stem, backend=backend)
            except UnsupportedError:
                continue
            yield (
                (artifact, backend, str(predictor.info().get("computes", artifact))),
                scores_of(predictor),
            )
        for computes in CONVERTED if artifact == "fp32" else ():
            yield (artifact, "native", computes), scores_of(Predictor(stem, precision=computes))
    yield ("quantize_dynamic", "onnxruntime", "int8"), dynamic_int8(folder / f"{name}.onnx")


def scores_of(predictor: Predictor) -> Scorer:
    """A scorer that runs a Predictor."""

    def scores(rows: list[list[int]], columns: list[list[int]]) -> NDArray[np.float32]:
        return predictor.run(rows, outputs=["prediction_scores"], positions=columns)["prediction_scores"]

    return scores


def dynamic_int8(graph: Path) -> Scorer:
    """A scorer on ONNX Runtime's own int8: one scale per weight, activations' ranges taken at run time."""
    pre, target = graph.with_suffix(".pre.onnx"), graph.with_suffix(".dynamic.onnx")
    onnx.save(onnx.load(graph), pre)  # with its weights inside: the model is small
    quant_pre_process(str(pre), str(pre), skip_symbolic_shape=True)
    quantize_dynamic(str(pre), str(target), weight_type=QuantType.QInt8)
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])

    def scores(rows: list[list[int]], columns: list[list[int]]) -> NDArray[np.float32]:
        width = max(map(len, rows))
        ids = np.array([[*row, *[0] * (width - len(row))] for row in rows], np.int64)
        mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows], np.int64)
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (found,) = session.run(["prediction_scores"], feed)
        chosen: NDArray[np.float32] = found[np.arange(len(rows)), np.array(columns)[:, 0]]
        return chosen

    return scores


def ask(scorer: Scorer, masked: Masked, rows_at_once: int = 128) -> Found:
    """The first choices and losses, computed some rows at a time."""
    first, loss = [], []
    for start in range(0, len(masked.rows), rows_at_once):
        part = slice(start, start + rows_at_once)
        scores = scorer(masked.rows[part], masked.columns[part]).astype(np.float64)
        scores -= scores.max(axis=1, keepdims=True)
        first.append(scores.argmax(axis=1))
        true = np.take_along_axis(scores, masked.tokens[part, None], axis=1)[:, 0]
        loss.append(np.log(np.exp(scores).sum(axis=1)) - true)
    return Found(np.concatenate(first), np.concatenate(loss))


def print_table(name: str, results: dict[Key, Found], masked: Masked) -> None:
    """Print a line for each scorer, with its difference from the engine in fp32."""
    exact = results["fp32", "native", "fp32"]
    print(f"\n{CHECKPOINT.name} {name}, {len(masked.rows):,} masks in held-out sentences.\n")
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
