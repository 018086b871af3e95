"""Folders as `optimum-cli export onnx` writes them: the program, config.json and the tokenizer's files.

    python optimum_folders.py FOLDER [CASE...]

The CLI is the one beside this Python. Tried with optimum-onnx 0.1.0 (optimum 2.1.0, transformers 4.57.6,
torch 2.13.0), and with optimum 1.8.8 (transformers 4.29.2, torch 1.12.1), which lacks --dtype, --slim and
--no-dynamic-axes.
"""

import io
import subprocess
import sys
import tempfile
from pathlib import Path

import answers
import sentencepiece
import tiny_albert
import transformers

LABELS = {0: "negative", 1: "neutral", 2: "positive"}
TASKS = {
    "feature-extraction": ("AlbertModel", {}),
    "text-classification": (
        "AlbertForSequenceClassification",
        {"id2label": LABELS, "label2id": {v: k for k, v in LABELS.items()}},
    ),
    "fill-mask": ("AlbertForMaskedLM", {}),
    "question-answering": ("AlbertForQuestionAnswering", {}),
    "token-classification": ("AlbertForTokenClassification", {"num_labels": 5}),
    "multiple-choice": ("AlbertForMultipleChoice", {}),
}
# name: (task, further arguments of the CLI)
CASES = {task: (task, []) for task in TASKS}
CASES |= {
    f"{task}-{level.lower()}": (task, ["--optimize", level])
    for task in list(TASKS)[:3]
    for level in ("O1", "O2", "O3")
}
CASES |= {
    "feature-extraction-o4": ("feature-extraction", ["--optimize", "O4", "--device", "cuda"]),
    "feature-extraction-fp16": ("feature-extraction", ["--dtype", "fp16"]),
    "feature-extraction-opset11": ("feature-extraction", ["--opset", "11"]),
    "feature-extraction-opset17": ("feature-extraction", ["--opset", "17"]),
    "text-classification-no-post-process": ("text-classification", ["--no-post-process"]),
    "text-classification-slim": ("text-classification", ["--slim"]),
    "text-classification-fixed": (
        "text-classification",
        ["--no-dynamic-axes", "--batch_size", "1", "--sequence_length", "16"],
    ),
}
TEXT = ["the cat sat on the mat", "a dog ran to the cat, and the dog sat", "1,000 cats and 2,000 dogs"] * 30
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "cat",
    "dog",
    "sat",
    "on",
    "a",
    "mat",
    "##s",
    "ran",
    "to",
    "and",
]


def write_checkpoint(folder: Path, name: str, changes: dict) -> None:
    """A checkpoint folder with a tokenizer, as the CLI takes it."""
    model = tiny_albert.model(name, tiny_albert.config(**changes))
    model.save_pretrained(folder)
    tiny_albert.save_source(folder, model)
    if int(transformers.__version__.split(".")[1]) < 40:  # it cannot read a SentencePiece model without rules
        (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
        transformers.BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=False).save_pretrained(folder)
    else:
        write_sentencepiece(folder / "spiece.model")
        transformers.AlbertTokenizerFast.from_pretrained(folder).save_pretrained(folder)


def write_sentencepiece(file: Path) -> None:
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT),
        model_writer=trained,
        vocab_size=60,
        hard_vocab_limit=False,
        normalization_rule_name="identity",  # the usual rules would be most of each folder
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        control_symbols=["[CLS]", "[SEP]", "[MASK]"],
        minloglevel=2,
    )
    file.write_bytes(trained.getvalue())


def make(folder: Path, task: str, arguments: list[str]) -> None:
    name, changes = TASKS[task]
    with tempfile.TemporaryDirectory() as checkpoint:
        write_checkpoint(Path(checkpoint), name, changes)
        cli = Path(sys.executable).parent / "optimum-cli"
        command = [cli, "export", "onnx", "--model", checkpoint, "--task", task, *arguments, folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not (folder / "model.onnx").exists():
            raise RuntimeError(done.stderr[-500:])
        for file in ("source.json", "source.npz"):
            (folder / file).write_bytes((Path(checkpoint) / file).read_bytes())
    for file in folder.glob("*.json"):  # from_pretrained notes folders of this machine
        file.write_text(
            file.read_text().replace(checkpoint, "albert-tiny").replace(str(folder), "albert-tiny")
        )
    fixed = (1, 16) if "--no-dynamic-axes" in arguments else None
    answers.answer_with_onnxruntime(
        folder / "model.onnx", answers.batches(choices=4 if task == "multiple-choice" else 0, fixed=fixed)
    )


def main(target: Path, chosen: list[str]) -> None:
    for case, (task, arguments) in CASES.items():
        if not chosen or case in chosen:
            try:
                make(target / case, task, arguments)
                print(case, (target / case / "model.onnx").stat().st_size, flush=True)
            except Exception as error:  # one case that a tool refuses must not stop the others
                print(case, "FAILED", str(error)[-600:], flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
