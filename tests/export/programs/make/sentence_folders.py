"""Folders of sentence-transformers with an ONNX program, in the two ways people get them.

    python sentence_folders.py FOLDER [CASE...]

Tried with sentence-transformers 5.1.2, optimum-onnx 0.1.0 (optimum 2.1.0, transformers 4.57.6, torch 2.13.0).
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import answers
import sentence_transformers
from optimum_folders import write_checkpoint
from sentence_transformers import models


def write_sentence_folder(folder: Path, checkpoint: Path, pooling: str) -> None:
    write_checkpoint(checkpoint, "AlbertModel", {})
    encoder = models.Transformer(str(checkpoint), max_seq_length=32)
    modules = [encoder, models.Pooling(encoder.get_word_embedding_dimension(), pooling), models.Normalize()]
    sentence_transformers.SentenceTransformer(modules=modules).save_pretrained(
        str(folder), create_model_card=False
    )


def save_by_library(source: Path, folder: Path) -> Path:
    """SentenceTransformer(..., backend="onnx") and save_pretrained: the program is onnx/model.onnx."""
    made = sentence_transformers.SentenceTransformer(
        str(source), backend="onnx", model_kwargs={"export": True}
    )
    made.save_pretrained(str(folder), create_model_card=False)
    return folder / "onnx/model.onnx"


def save_by_optimum(source: Path, folder: Path) -> Path:
    """optimum-cli: the program pools, and returns token_embeddings and sentence_embedding."""
    cli = Path(sys.executable).parent / "optimum-cli"
    command = [
        cli,
        "export",
        "onnx",
        "--library-name",
        "sentence_transformers",
        "--task",
        "feature-extraction",
    ]
    done = subprocess.run([*command, "--model", source, folder], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-500:])
    return folder / "model.onnx"


CASES = {
    f"{way}-{pooling}": (way, pooling) for way in ("library", "optimum") for pooling in ("mean", "cls", "max")
}
WAYS = {"library": save_by_library, "optimum": save_by_optimum}


def make(folder: Path, way: str, pooling: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        checkpoint, source = Path(temporary, "checkpoint"), Path(temporary, "sentence")
        write_sentence_folder(source, checkpoint, pooling)
        file = WAYS[way](source, folder)
        for name in ("source.json", "source.npz"):
            shutil.copyfile(checkpoint / name, file.parent / name)
        for text in folder.rglob("*.json"):  # from_pretrained notes the folder of this machine
            text.write_text(
                text.read_text().replace(str(source), "albert-tiny").replace(str(checkpoint), "albert-tiny")
            )
    answers.answer_with_onnxruntime(file, answers.batches())


def main(target: Path, chosen: list[str]) -> None:
    for case, (way, pooling) in CASES.items():
        if not chosen or case in chosen:
            try:
                make(target / case, way, pooling)
                print(
                    case,
                    [str(file.relative_to(target / case)) for file in (target / case).rglob("*.onnx")],
                    flush=True,
                )
            except Exception as error:  # one case that a tool refuses must not stop the others
                print(case, "FAILED", str(error)[-600:], flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
