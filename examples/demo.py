"""The main job, end to end: export a variant, then let each backend answer the same sentences.

Offline there are no pretrained weights, so the weights are seeded random numbers: the vectors mean nothing,
but every backend has to agree on them, and a sentence must not change with its company.
"""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console
from rich.table import Table

from albert_runtime import Predictor

VARIANT = "albert-base-v2"
BACKENDS = ("native", "onnxruntime", "paddle")
ROUNDS = 5
SENTENCES = [
    "ALBERT repeats one layer twelve times.",
    "General engines unroll it, copy its weights and pad its batches.",
    "This one loops.",
    "A sequence gets the same bits whatever else is in the batch, in any order and on any number of threads.",
]


def export(folder: Path) -> Path:
    """Export the variant into ``folder``; the path of its program."""
    command = ["albert-export", VARIANT, "--random-weights", "-o", str(folder), "--force"]
    print("$", *command, flush=True)
    folder.mkdir(exist_ok=True)
    subprocess.run([str(Path(sys.executable).parent / command[0]), *command[1:]], check=True)
    return folder / f"{VARIANT}.pdmodel"


def seconds(predictor: Predictor) -> float:
    """Wall time of one run over the sentences."""
    start = time.perf_counter()
    predictor.run(SENTENCES)
    return time.perf_counter() - start


def same_alone(predictor: Predictor) -> bool:
    """Whether each sentence alone gives the bits that it gives in the batch."""
    together = predictor.run(SENTENCES)["pooled_output"]
    alone = [predictor.run([sentence])["pooled_output"][0] for sentence in SENTENCES]
    return bool(np.array_equal(together, np.stack(alone)))


def main() -> None:
    """Export, run, compare."""
    program = export(Path("demo-out"))
    print(f'\n>>> Predictor("{program}").run(sentences)')
    predictors = {name: Predictor(program, backend=name) for name in BACKENDS}
    for name, output in predictors["native"].run(SENTENCES).items():
        print(f"{name}: float32 {output.shape}")

    expected = predictors["native"].run(SENTENCES)
    times: dict[str, list[float]] = {name: [] for name in BACKENDS}
    for _ in range(ROUNDS):  # turn by turn: a busy neighbour slows them all
        for name, predictor in predictors.items():
            times[name].append(seconds(predictor))
    table = Table(
        title=f"{VARIANT}, {len(SENTENCES)} sentences, {predictors['native'].info()['num_threads']} threads"
    )
    for heading in (
        "backend",
        "largest difference to native",
        "time / native",
        "same bits alone and in the batch",
    ):
        table.add_column(heading, justify="left" if heading == "backend" else "right")
    for name, predictor in predictors.items():
        answer = predictor.run(SENTENCES)
        difference = max(float(np.abs(answer[key] - expected[key]).max()) for key in expected)
        ratio = median(t / native for t, native in zip(times[name], times["native"], strict=True))
        table.add_row(name, f"{difference:.1e}", f"{ratio:.2f}", "yes" if same_alone(predictor) else "no")
    Console().print(table)


if __name__ == "__main__":
    main()
