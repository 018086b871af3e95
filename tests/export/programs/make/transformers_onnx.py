"""Programs of `python -m transformers.onnx --export_with_transformers`, the exporter before optimum.

    python transformers_onnx.py FOLDER [CASE...]

Tried with transformers 4.29.2 on torch 1.12.1.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import answers
from optimum_folders import TASKS, write_checkpoint

# name: (the class's row in TASKS, the tool's word for it, further arguments)
CASES = {
    "default": ("feature-extraction", "default", []),
    "default-opset11": ("feature-extraction", "default", ["--opset", "11"]),
    "sequence-classification": ("text-classification", "sequence-classification", []),
    "masked-lm": ("fill-mask", "masked-lm", []),
    "question-answering": ("question-answering", "question-answering", []),
    "token-classification": ("token-classification", "token-classification", []),
    "multiple-choice": ("multiple-choice", "multiple-choice", []),
}


def make(folder: Path, task: str, feature: str, arguments: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as checkpoint:
        write_checkpoint(Path(checkpoint), *TASKS[task])
        command = [
            sys.executable,
            "-m",
            "transformers.onnx",
            "--export_with_transformers",
            "--framework",
            "pt",
        ]
        command += ["--model", checkpoint, "--feature", feature, *arguments, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not (folder / "model.onnx").exists():
            raise RuntimeError(done.stderr[-500:])
        for file in ("source.json", "source.npz"):
            (folder / file).write_bytes((Path(checkpoint) / file).read_bytes())
    answers.answer_with_onnxruntime(
        folder / "model.onnx", answers.batches(choices=4 if task == "multiple-choice" else 0)
    )


def main(target: Path, chosen: list[str]) -> None:
    for case, (task, feature, arguments) in CASES.items():
        if not chosen or case in chosen:
            try:
                make(target / case, task, feature, arguments)
                print(case, (target / case / "model.onnx").stat().st_size, flush=True)
            except Exception as error:  # one case that a tool refuses must not stop the others
                print(case, "FAILED", str(error)[-600:], flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
