"""Prints digests of the C++ engine's outputs, to compare revisions: a line per model, ISA, precision, output.

    python tools/output_digests.py MODEL... > before     # then > after, with the other revision on PYTHONPATH
    diff before after

A refactoring must not change a bit. Batches are seeded. All ISAs of this machine run, each in a process of
its own.
"""

import argparse
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np

from albert_runtime import Predictor, kernels

PRECISIONS = ("fp32", "bf16", "int8")
SCORES = "prediction_scores"


def batches(predictor: Predictor) -> Iterator[tuple[str, object]]:
    """Batches by name: short, long and ragged rows, rows with holes in the mask or a masked first token."""
    config = predictor.info()["config"]
    longest, vocabulary = config["max_position_embeddings"], config["vocab_size"]
    random = np.random.default_rng(0)
    lengths = sorted({min(length, longest) for length in (1, 2, 7, 16, 33, 129, longest)})
    rows = [random.integers(1, vocabulary, length).tolist() for length in lengths]
    width = min(48, longest)
    ids = random.integers(1, vocabulary, (6, width))
    mask = random.integers(0, 2, (6, width))
    mask[:, -1] = 1
    types = random.integers(0, config["type_vocab_size"], (6, width))
    padded = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    if predictor.task == "multiple-choice":
        padded = {name: values.reshape(3, 2, width) for name, values in padded.items()}
        yield "ragged", [[row, row[::-1]] for row in rows]
    else:
        yield "ragged", rows
        yield "one", [rows[-1]]
    yield "padded", padded


def digests(path: str) -> Iterator[str]:
    """The lines for one model on this process's ISA."""
    for precision in PRECISIONS:
        predictor = Predictor(path, backend="native", precision=precision)
        info = predictor.info()
        for name, batch in batches(predictor):
            wanted = [(None, predictor.run(batch))]
            wanted += [(output, predictor.run(batch, [output])) for output in info["outputs"]]
            if SCORES in info["outputs"] and name == "ragged":
                columns = [[0, len(row) - 1] for row in batch]  # type: ignore[attr-defined]
                wanted.append(("some scores", predictor.run(batch, [SCORES], positions=columns)))
            for alone, results in wanted:
                for output, values in results.items():
                    digest = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]
                    where = f"{info['name']} {info['isa']} {precision} {name}"
                    yield f"{where} {alone or 'all'}: {output} {digest}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help="exported models")
    models = parser.parse_intermixed_args().models
    if "ALBERT_FORCE_ISA" in os.environ:
        for model in models:
            for line in digests(model):
                print(line)
        return 0
    for isa in kernels.isas():
        environment = {**os.environ, "ALBERT_FORCE_ISA": isa, "ALBERT_PACKED_CACHE": "0"}
        subprocess.run([sys.executable, __file__, *models], env=environment, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
