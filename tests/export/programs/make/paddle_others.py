"""Paddle programs that are no ALBERT of ours, for refusals.

FLAGS_enable_pir_api=0 python paddle_others.py FOLDER      (.pdmodel; without the flag paddle 3 writes .json)

Tried with paddlenlp 3.0.0b4 on paddlepaddle 3.1.1, with the other packages that paddle_programs.py names.
"""

import sys
from pathlib import Path

import answers
import numpy as np
import paddle
import paddle_programs
import paddlenlp.transformers

BERT = {key: value for key, value in answers.SIZES.items() if key != "embedding_size"}


class ConvNet(paddle.nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            *(
                paddle.nn.Conv2D(3, 4, 3),
                paddle.nn.BatchNorm2D(4),
                paddle.nn.ReLU(),
                paddle.nn.AdaptiveAvgPool2D(1),
            ),
            *(paddle.nn.Flatten(), paddle.nn.Linear(4, 5)),
        )


def encoder(name: str, words: list[str]) -> tuple:
    config = getattr(paddlenlp.transformers, f"{name}Config")(**BERT)
    return getattr(paddlenlp.transformers, f"{name}Model")(config), paddle_programs.specs(words, 2, False)


CASES = {
    "bert": lambda: encoder("Bert", ["input_ids", "token_type_ids"]),
    "ernie": lambda: encoder("Ernie", ["input_ids", "token_type_ids"]),
    "convnet": lambda: (ConvNet(), [paddle.static.InputSpec([None, 3, 8, 8], "float32", "image")]),
}


def main(target: Path) -> None:
    for case, build in CASES.items():
        folder = target / case
        folder.mkdir(parents=True, exist_ok=True)
        model, specs = build()
        model.eval()
        paddle.jit.save(paddle.jit.to_static(model, input_spec=specs), str(folder / "model"))
        if (folder / "model.pdmodel").exists():
            paddle_programs.drop_call_stacks(folder / "model.pdmodel")
        images = [
            {"image": np.random.default_rng(0).normal(size=(rows, 3, 8, 8)).astype("float32")}
            for rows in (2, 3)
        ]
        paddle_programs.answer(folder, images if case == "convnet" else answers.batches())
        print(case, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
