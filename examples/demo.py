"""The whole path: export a checkpoint, then fill masks in text with it, on every backend.

models/python-albert is a small ALBERT, one layer repeated twelve times, trained on Python's documentation
(tools/train_python_albert.py). All backends must agree, and a sentence must get the same result alone as in
a batch.
"""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console
from rich.table import Table

from albert_runtime import Predictor

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = ROOT / "models" / "python-albert"
ROUNDS = 5
SENTENCES = [
    "Return True if the string is empty, [MASK] otherwise.",
    "If the file does not [MASK], an exception is raised.",
    "Python is a programming [MASK].",
    "A tuple is an immutable [MASK].",
    "This module provides a class for working with regular [MASK].",
    "The for statement is used to [MASK] over the elements of a sequence.",
    "Read at most n [MASK] from the socket.",
    "A thread waits until the [MASK] is released.",
]


@dataclass(frozen=True)
class Choice:
    """A backend and a precision to run the model with."""

    backend: str
    precision: str = "auto"

    def __str__(self) -> str:
        return self.backend if self.precision == "auto" else f"{self.backend}, {self.precision}"


NATIVE = Choice("native")
CHOICES = (
    NATIVE,
    Choice("native", "bf16"),
    Choice("native", "int8"),
    Choice("onnxruntime"),
    Choice("paddle"),
)


def export(folder: Path) -> Path:
    """Export the checkpoint into ``folder``; the path of the exported program."""
    command = ["albert-export", str(CHECKPOINT.relative_to(ROOT)), "-o", str(folder), "--force"]
    print("$", *command, flush=True)
    folder.mkdir(exist_ok=True)
    command[1] = str(CHECKPOINT)
    subprocess.run([str(Path(sys.executable).parent / command[0]), *command[1:]], check=True)
    return folder / f"{CHECKPOINT.name}.pdmodel"


def seconds(predictor: Predictor) -> float:
    """Wall time of one run over the sentences."""
    start = time.perf_counter()
    predictor.run(SENTENCES)
    return time.perf_counter() - start


def same_alone(predictor: Predictor) -> bool:
    """Whether each sentence gives the same bits alone as in the batch."""
    together = predictor.run(SENTENCES)["prediction_scores"]
    for row, sentence in zip(together, SENTENCES, strict=True):
        alone = predictor.run([sentence])["prediction_scores"][0]
        if not np.array_equal(row[: len(alone)], alone):
            return False
    return True


def filled(answers: list[dict[str, object]]) -> Table:
    """The likeliest words for each mask."""
    table = Table(title="text in, result out")
    table.add_column("text")
    table.add_column("likeliest words")
    for sentence, answer in zip(SENTENCES, answers, strict=True):
        words = [f"{one['token']} {one['score']:.0%}" for one in answer["masks"][0]["candidates"]]  # type: ignore[index]
        table.add_row(sentence.replace("[MASK]", r"\[MASK]"), ", ".join(words))
    return table


def compared(predictors: dict[Choice, Predictor]) -> Table:
    """Each backend and precision against the C++ engine in fp32."""
    expected = predictors[NATIVE].run(SENTENCES)["prediction_scores"]
    words = [best(predictors[NATIVE].fill_mask(sentence)) for sentence in SENTENCES]
    times: dict[Choice, list[float]] = {choice: [] for choice in predictors}
    for _ in range(ROUNDS):  # in turns, so that a busy neighbour slows all alike
        for choice, predictor in predictors.items():
            times[choice].append(seconds(predictor))
    table = Table(title=f"{len(SENTENCES)} texts, {predictors[NATIVE].info()['num_threads']} threads")
    headings = ("backend", "scores differ by", "same words", "time", "same bits alone")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "backend" else "right")
    for choice, predictor in predictors.items():
        difference = float(np.abs(predictor.run(SENTENCES)["prediction_scores"] - expected).max())
        agreed = sum(best(predictor.fill_mask(s)) == w for s, w in zip(SENTENCES, words, strict=True))
        ratio = median(t / native for t, native in zip(times[choice], times[NATIVE], strict=True))
        table.add_row(
            str(choice),
            f"{difference:.1e}",
            f"{agreed} of {len(words)}",
            f"{ratio:.2f}",
            "yes" if same_alone(predictor) else "no",
        )
    return table


def best(answer: dict[str, object]) -> str:
    """The likeliest word for a text's one mask."""
    return str(answer["masks"][0]["candidates"][0]["token"])  # type: ignore[index]


def main() -> None:
    """Export, answer, compare."""
    program = export(Path("demo-out"))
    predictors = {
        choice: Predictor(program, backend=choice.backend, precision=choice.precision) for choice in CHOICES
    }
    print(f'\n>>> Predictor("{program}").fill_mask(texts)')
    console = Console()
    console.print(filled(predictors[NATIVE].fill_mask(SENTENCES, top_k=4)))
    console.print(compared(predictors))
    print(
        f"\ntry it: echo 'A tuple is an immutable [MASK].' | .venv/bin/albert-predict {program} | head -c 300"
    )


if __name__ == "__main__":
    main()
