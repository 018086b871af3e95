"""The C++ engine against ONNX Runtime and Paddle Inference on one artifact, turn by turn.

    python benchmarks/compare.py albert-base-v2.pdmodel [--threads 2] [--rounds 9]

Each backend runs in a process of its own, so that no thread pool spins in another's turn. In a round every
backend takes its turn on the same work, repeated for at least 0.4 s (caches are warm, as in service); its
figure is the median of these runs. Shared machines drift, so the table gives the median over rounds of the
ratio within a round. Outputs are compared before anything is timed.
"""

import argparse
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from albert_runtime import Predictor

BACKENDS = ("native", "onnxruntime", "paddle")
TURN_SECONDS = 0.4
Batch = dict[str, np.ndarray]


def uniform(rows: int, length: int) -> Batch:
    """Rows of one length, no padding."""
    return {"input_ids": np.random.default_rng(0).integers(5, 1000, (rows, length))}


def mixed(rows: int) -> Batch:
    """Log-normal lengths (median 33, sigma 0.7, clipped to 5..384), padded to the longest."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(3.5, 0.7, rows), 5, 384).astype(int)
    mask = np.arange(lengths.max()) < lengths[:, None]
    return {"input_ids": rng.integers(5, 1000, mask.shape) * mask, "attention_mask": mask.astype(np.int64)}


WORK = {
    "1 x 16": uniform(1, 16),
    "1 x 128": uniform(1, 128),
    "8 x 128": uniform(8, 128),
    "mixed 32": mixed(32),
}


def serve(pipe: Connection, program: Path, backend: str, threads: int) -> None:
    """Answer "outputs of this work" and "seconds for this work" until told to stop."""
    predictor = Predictor(program, backend=backend, num_threads=threads)
    while (request := pipe.recv()) is not None:
        kind, work = request
        if kind == "run":
            pipe.send(predictor.run(WORK[work]))
            continue
        times: list[float] = []
        while sum(times) < TURN_SECONDS:
            start = time.perf_counter()
            predictor.run(WORK[work])
            times.append(time.perf_counter() - start)
        pipe.send(median(times))


def ask(pipe: Connection, kind: str, work: str) -> object:
    """One question, one answer."""
    pipe.send((kind, work))
    return pipe.recv()


def main() -> None:
    """Compare and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("--threads", type=int, default=None, help="the CPUs of this process")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()

    context = get_context("spawn")
    pipes: dict[str, Connection] = {}
    processes = []
    for backend in BACKENDS:
        pipes[backend], theirs = context.Pipe()
        arguments_of_serve = (theirs, arguments.program, backend, arguments.threads)
        processes.append(context.Process(target=serve, args=arguments_of_serve, daemon=True))
        processes[-1].start()

    table = Table(
        "work", "backend", "median ms", "time / native", "p10", "p90", "largest difference to native"
    )
    for work in track(WORK, description="rounds"):
        answers = {backend: ask(pipe, "run", work) for backend, pipe in pipes.items()}
        rounds = [
            {backend: float(ask(pipe, "time", work)) for backend, pipe in pipes.items()}
            for _ in range(arguments.rounds)
        ]
        for backend in BACKENDS:
            ratios = np.array([times[backend] / times["native"] for times in rounds])
            p10, middle, p90 = np.percentile(ratios, [10, 50, 90])
            difference = max(
                np.abs(answers[backend][k] - answers["native"][k]).max() for k in answers["native"]
            )
            milliseconds = 1e3 * median(times[backend] for times in rounds)
            row = (f"{milliseconds:.1f}", f"{middle:.2f}", f"{p10:.2f}", f"{p90:.2f}", f"{difference:.1e}")
            table.add_row(work if backend == BACKENDS[0] else "", backend, *row)
    for pipe in pipes.values():
        pipe.send(None)
    for process in processes:
        process.join()
    Console().print(table)


if __name__ == "__main__":
    main()
