"""ONNX files that are no ALBERT of ours, for refusals: other networks, and ALBERTs with something added.

    python other_networks.py FOLDER [CASE...]

Tried with torch 2.13.0, transformers 4.57.6, ONNX Runtime 1.32.0.
"""

import sys
import warnings
from pathlib import Path

import answers
import tiny_albert
import torch
import transformers

BERT = {key: value for key, value in answers.SIZES.items() if key != "embedding_size"}
SMALL = {"vocab_size": 97, "pad_token_id": 0}
INPUTS = ["input_ids", "attention_mask", "token_type_ids"]


class Headed(torch.nn.Module):
    """An ALBERT with a head that transformers does not have."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.config = kind, tiny_albert.config(output_hidden_states=True)
        self.albert = transformers.AlbertModel(self.config)
        self.dense, self.out = torch.nn.Linear(24, 16), torch.nn.Linear(16, 3)
        self.recurrent = torch.nn.LSTM(24, 8, batch_first=True, bidirectional=True)

    def forward(self, input_ids, attention_mask, token_type_ids):
        result = self.albert(input_ids, attention_mask, token_type_ids, return_dict=True)
        if self.kind == "two layers":
            return self.out(torch.relu(self.dense(result.pooler_output)))
        if self.kind == "lstm":
            return self.out(self.recurrent(result.last_hidden_state)[0])
        if self.kind == "max":
            return result.last_hidden_state.max(1).values
        if self.kind == "first":
            return result.last_hidden_state[:, 0]
        return torch.stack(result.hidden_states[-2:]).mean(0)  # "last two"


class ConvNet(torch.nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1)
        )
        self.extend([torch.nn.Flatten(), torch.nn.Linear(4, 5)])


def bert(name: str, **changes):
    return tiny_albert.model(name, transformers.BertConfig(**BERT, **changes, return_dict=False))


def electra(**changes):
    config = transformers.ElectraConfig(**answers.SIZES, **changes, return_dict=False)
    return tiny_albert.model("ElectraModel", config)


def distilbert():
    config = transformers.DistilBertConfig(
        **SMALL, dim=24, n_layers=3, n_heads=2, hidden_dim=32, max_position_embeddings=40
    )
    config.return_dict = False
    return tiny_albert.model("DistilBertModel", config)


def roberta():
    return tiny_albert.model(
        "RobertaModel", transformers.RobertaConfig(**{**BERT, "pad_token_id": 0, "return_dict": False})
    )


def t5_encoder():
    config = transformers.T5Config(**SMALL, d_model=24, d_kv=12, d_ff=32, num_layers=3, num_heads=2)
    config.return_dict = False
    return tiny_albert.model("T5EncoderModel", config)


def albert(**changes):
    return tiny_albert.model(
        "AlbertModel", tiny_albert.config(return_dict=False, attn_implementation="eager", **changes)
    )


def headed(kind: str):
    made = Headed(kind).eval()
    tiny_albert.randomize(made)
    return made


def convnet():
    made = ConvNet().eval()
    tiny_albert.randomize(made)
    return made


CASES = {
    "bert": (lambda: bert("BertModel"), INPUTS),
    "bert-sequence-classification": (lambda: bert("BertForSequenceClassification", num_labels=3), INPUTS),
    "bert-masked-lm": (lambda: bert("BertForMaskedLM"), INPUTS),
    "distilbert": (distilbert, INPUTS[:2]),
    "roberta": (roberta, INPUTS[:2]),
    "electra": (
        electra,
        INPUTS,
    ),  # narrower embeddings with a projection, like ALBERT, but each layer has its own weights
    "t5-encoder": (t5_encoder, INPUTS[:2]),
    "convnet": (convnet, ["image"]),
    "albert-relative-positions": (lambda: albert(position_embedding_type="relative_key"), INPUTS),
    "albert-two-layer-head": (lambda: headed("two layers"), INPUTS),
    "albert-lstm-head": (lambda: headed("lstm"), INPUTS),
    "albert-max-pooling": (lambda: headed("max"), INPUTS),
    "albert-first-token": (lambda: headed("first"), INPUTS),
    "albert-last-two-layers": (lambda: headed("last two"), INPUTS),
}


def make(folder: Path, build, inputs: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model, feeds = build(), answers.batches()
    if inputs == ["image"]:
        generator = torch.Generator().manual_seed(0)
        feeds = [{"image": torch.randn(rows, 3, 8, 8, generator=generator).numpy()} for rows in (2, 3)]
    torch.onnx.export(
        model,
        tuple(torch.from_numpy(feeds[-1][name].copy()) for name in inputs),
        str(folder / "model.onnx"),
        input_names=inputs,
        output_names=["output"],
        dynamic_axes={
            name: {0: "batch"} if name == "image" else {0: "batch", 1: "sequence"} for name in inputs
        },
        opset_version=14,
        dynamo=False,
    )
    answers.answer_with_onnxruntime(folder / "model.onnx", feeds)


def main(target: Path, chosen: list[str]) -> None:
    warnings.simplefilter("ignore")
    for case, (build, inputs) in CASES.items():
        if not chosen or case in chosen:
            try:
                make(target / case, build, inputs)
                print(case, (target / case / "model.onnx").stat().st_size, flush=True)
            except Exception as error:  # one case that a tool refuses must not stop the others
                print(case, "FAILED", repr(error)[:600], flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
