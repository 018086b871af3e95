"""ONNX files that paddle2onnx makes of the programs of paddle_programs.py.

    python paddle_to_onnx.py FOLDER_OF_PROGRAMS FOLDER

Tried with paddle2onnx 2.1.0 (paddlepaddle 3.1.1) and paddle2onnx 1.2.11 (paddlepaddle 2.6.2).
The first runs onnxoptimizer unless told not to.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import answers

MODELS = [
    "model",
    "model-two-inputs",
    "model-two-named",
    "model-ids-only",
    "model-gelu",
    "model-relu",
    "model-groups",
    "model-inner",
]
MODELS += ["model-no-pooler", "model-no-padding-id", "model-padding-id-3", "model-fixed"]
TASKS = [
    "sequence-classification",
    "token-classification",
    "question-answering",
    "masked-lm",
    "multiple-choice",
    "pretraining",
]
TASKS += ["sequence-classification-two-inputs", "sequence-classification-softmax"]
# name: (program, opset, further arguments)
CASES = {f"{program}-opset13": (program, 13, []) for program in MODELS + TASKS}
CASES |= {
    f"{program}-opset{opset}": (program, opset, []) for program in ("model", *TASKS[:4]) for opset in (11, 17)
}
CASES["model-opset13-unoptimized"] = ("model", 13, ["--optimize_tool", "None"])
CASES["model-opset13-polygraphy"] = ("model", 13, ["--optimize_tool", "polygraphy"])


def make(source: Path, folder: Path, opset: int, arguments: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    program = next(file for file in (source / "model.json", source / "model.pdmodel") if file.exists())
    command = [str(Path(sys.executable).parent / "paddle2onnx"), "--model_dir", str(source)]
    command += ["--model_filename", program.name, "--params_filename", "model.pdiparams"]
    command += ["--save_file", str(folder / "model.onnx"), "--opset_version", str(opset), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not (folder / "model.onnx").exists():
        raise RuntimeError((done.stdout + done.stderr)[-500:])
    for file in ("source.json", "source.npz"):
        shutil.copyfile(source / file, folder / file)
    choices, fixed = (
        (2 if "multiple-choice" in folder.name else 0),
        ((1, 16) if "fixed" in folder.name else None),
    )
    answers.answer_with_onnxruntime(folder / "model.onnx", answers.batches(choices=choices, fixed=fixed))


def main(programs: Path, target: Path, chosen: list[str]) -> None:
    for case, (program, opset, arguments) in CASES.items():
        if not chosen or case in chosen:
            try:
                make(programs / program, target / case, opset, arguments)
                print(case, (target / case / "model.onnx").stat().st_size, flush=True)
            except Exception as error:  # one case that a tool refuses must not stop the others
                print(case, "FAILED", str(error)[-500:], flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
