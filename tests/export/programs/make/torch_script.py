"""Programs of torch.onnx's TorchScript exporter (dynamo=False), from transformers' ALBERT classes.

    python torch_script.py FOLDER

Tried with torch 2.13.0, transformers 4.57.6, onnx 1.17.0, ONNX Runtime 1.32.0,
and with torch 1.12.1, transformers 4.29.2.
"""

import inspect
import sys
import warnings
from pathlib import Path

import answers
import tiny_albert
import torch

INPUTS = ["input_ids", "attention_mask", "token_type_ids"]
HIDDEN = ["last_hidden_state", "pooler_output"]
# name: (class, config changes, options: opset, inputs, outputs, fixed, attention, wrap, half, ...)
CASES = {
    "model": ("AlbertModel", {}, {"outputs": HIDDEN}),
    "model-opset11": ("AlbertModel", {}, {"outputs": HIDDEN, "opset": 11, "attention": "eager"}),
    "model-opset17": ("AlbertModel", {}, {"outputs": HIDDEN, "opset": 17}),
    "model-opset17-eager": ("AlbertModel", {}, {"outputs": HIDDEN, "opset": 17, "attention": "eager"}),
    "model-opset20": ("AlbertModel", {"hidden_act": "gelu"}, {"outputs": HIDDEN, "opset": 20}),
    "model-eager": ("AlbertModel", {}, {"outputs": HIDDEN, "attention": "eager"}),
    "model-no-pooler": ("AlbertModel", {}, {"outputs": HIDDEN[:1], "model": {"add_pooling_layer": False}}),
    "model-no-pooler-opset11": (
        "AlbertModel",
        {},
        {"outputs": HIDDEN[:1], "model": {"add_pooling_layer": False}, "opset": 11, "attention": "eager"},
    ),
    "model-pooled-only": ("AlbertModel", {}, {"outputs": HIDDEN[1:], "wrap": "pooled"}),
    "model-fixed": ("AlbertModel", {}, {"outputs": HIDDEN, "fixed": (1, 16)}),
    "model-fixed-opset11": (
        "AlbertModel",
        {},
        {"outputs": HIDDEN, "fixed": (1, 16), "opset": 11, "attention": "eager"},
    ),
    "model-fixed-length": ("AlbertModel", {}, {"outputs": HIDDEN, "fixed_length": True}),
    "model-ids-only": ("AlbertModel", {}, {"outputs": HIDDEN, "inputs": INPUTS[:1]}),
    "model-ids-only-eager": (
        "AlbertModel",
        {},
        {"outputs": HIDDEN, "inputs": INPUTS[:1], "attention": "eager"},
    ),
    "model-ids-mask": ("AlbertModel", {}, {"outputs": HIDDEN, "inputs": INPUTS[:2]}),
    "model-relu": ("AlbertModel", {"hidden_act": "relu"}, {"outputs": HIDDEN}),
    "model-gelu": ("AlbertModel", {"hidden_act": "gelu"}, {"outputs": HIDDEN}),
    "model-gelu-opset11": (
        "AlbertModel",
        {"hidden_act": "gelu"},
        {"outputs": HIDDEN, "opset": 11, "attention": "eager"},
    ),
    "model-gelu-pytorch-tanh": ("AlbertModel", {"hidden_act": "gelu_pytorch_tanh"}, {"outputs": HIDDEN}),
    "model-gelu-pytorch-tanh-opset20": (
        "AlbertModel",
        {"hidden_act": "gelu_pytorch_tanh"},
        {"outputs": HIDDEN, "opset": 20},
    ),
    "model-gelu-fast": ("AlbertModel", {"hidden_act": "gelu_fast"}, {"outputs": HIDDEN}),
    "model-swish": ("AlbertModel", {"hidden_act": "silu"}, {"outputs": HIDDEN}),
    "model-groups": ("AlbertModel", {"num_hidden_layers": 4, "num_hidden_groups": 2}, {"outputs": HIDDEN}),
    "model-inner": ("AlbertModel", {"num_hidden_layers": 2, "inner_group_num": 2}, {"outputs": HIDDEN}),
    "model-groups-inner": (
        "AlbertModel",
        {"num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2},
        {"outputs": HIDDEN, "opset": 17, "fixed": (1, 16)},
    ),
    "model-one-layer": ("AlbertModel", {"num_hidden_layers": 1}, {"outputs": HIDDEN}),
    "model-one-head": ("AlbertModel", {"num_attention_heads": 1}, {"outputs": HIDDEN}),
    "model-three-types": ("AlbertModel", {"type_vocab_size": 3}, {"outputs": HIDDEN}),
    "model-square": (
        "AlbertModel",
        {"embedding_size": 16, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 4},
        {"outputs": HIDDEN},
    ),
    "model-epsilon": ("AlbertModel", {"layer_norm_eps": 1e-5}, {"outputs": HIDDEN}),
    "model-hidden-states": (
        "AlbertModel",
        {"output_hidden_states": True},
        {"outputs": [*HIDDEN, *(f"hidden_states.{i}" for i in range(4))]},
    ),
    "model-attentions": (
        "AlbertModel",
        {"output_attentions": True},
        {"outputs": [*HIDDEN, *(f"attentions.{i}" for i in range(3))], "attention": "eager"},
    ),
    "model-unfolded": ("AlbertModel", {}, {"outputs": HIDDEN, "export": {"do_constant_folding": False}}),
    "model-unnamed": ("AlbertModel", {}, {"names": False, "outputs": HIDDEN}),
    "model-half": ("AlbertModel", {}, {"outputs": HIDDEN, "half": True}),
    "model-half-opset17-eager": (
        "AlbertModel",
        {},
        {"outputs": HIDDEN, "half": True, "opset": 17, "attention": "eager"},
    ),
    "sequence-classification": ("AlbertForSequenceClassification", {"num_labels": 3}, {}),
    "sequence-classification-eager": (
        "AlbertForSequenceClassification",
        {"num_labels": 3},
        {"attention": "eager"},
    ),
    "sequence-classification-opset11": (
        "AlbertForSequenceClassification",
        {"num_labels": 3},
        {"opset": 11, "attention": "eager"},
    ),
    "sequence-classification-opset17": ("AlbertForSequenceClassification", {"num_labels": 3}, {"opset": 17}),
    "sequence-classification-regression": ("AlbertForSequenceClassification", {"num_labels": 1}, {}),
    "sequence-classification-softmax": (
        "AlbertForSequenceClassification",
        {"num_labels": 3},
        {"wrap": "softmax", "outputs": ["probabilities"]},
    ),
    "sequence-classification-half": ("AlbertForSequenceClassification", {"num_labels": 3}, {"half": True}),
    "sequence-classification-unnamed": (
        "AlbertForSequenceClassification",
        {"num_labels": 3},
        {"names": False},
    ),
    "sequence-classification-two-inputs": (
        "AlbertForSequenceClassification",
        {"num_labels": 3},
        {"inputs": INPUTS[:2]},
    ),
    "token-classification": ("AlbertForTokenClassification", {"num_labels": 5}, {}),
    "token-classification-eager": (
        "AlbertForTokenClassification",
        {"num_labels": 5},
        {"attention": "eager", "opset": 11},
    ),
    "question-answering": ("AlbertForQuestionAnswering", {}, {"outputs": ["start_logits", "end_logits"]}),
    "question-answering-eager": (
        "AlbertForQuestionAnswering",
        {},
        {"outputs": ["start_logits", "end_logits"], "attention": "eager", "opset": 11},
    ),
    "masked-lm": ("AlbertForMaskedLM", {}, {}),
    "masked-lm-eager": ("AlbertForMaskedLM", {}, {"attention": "eager", "opset": 11}),
    "masked-lm-opset17": ("AlbertForMaskedLM", {}, {"opset": 17}),
    "masked-lm-untied": ("AlbertForMaskedLM", {"tie_word_embeddings": False}, {}),
    "pretraining": ("AlbertForPreTraining", {}, {"outputs": ["prediction_logits", "sop_logits"]}),
    "pretraining-eager": (
        "AlbertForPreTraining",
        {},
        {"outputs": ["prediction_logits", "sop_logits"], "attention": "eager", "opset": 11},
    ),
    "multiple-choice": ("AlbertForMultipleChoice", {}, {"choices": 2}),
    "multiple-choice-eager": (
        "AlbertForMultipleChoice",
        {},
        {"choices": 2, "attention": "eager", "opset": 11},
    ),
    "sentence-mean": ("AlbertModel", {}, {"wrap": "mean", "outputs": ["sentence_embedding"]}),
    "sentence-mean-normalized": (
        "AlbertModel",
        {},
        {"wrap": "normalized mean", "outputs": ["sentence_embedding"]},
    ),
}


class Wrapped(torch.nn.Module):
    """What people put around a model before they export it."""

    def __init__(self, inner: torch.nn.Module, what: str, inputs: list[str]) -> None:
        super().__init__()
        self.inner, self.what, self.inputs = inner, what, inputs

    def forward(self, *values):
        named = dict(zip(self.inputs, values, strict=True))
        result = self.inner(**named, return_dict=True)
        if self.what == "softmax":
            return torch.softmax(result.logits, -1)
        if self.what == "pooled":
            return result.pooler_output
        if self.what in ("mean", "normalized mean"):
            weights = named["attention_mask"].unsqueeze(-1).float()
            mean = (result.last_hidden_state * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean, p=2, dim=1) if self.what != "mean" else mean
        raise ValueError(self.what)


def axes(inputs: list[str], outputs: list[str], options: dict) -> dict | None:
    if options.get("fixed"):
        return None
    if options.get("fixed_length"):
        return {name: {0: "batch"} for name in [*inputs, *outputs]}
    last = 2 if options.get("choices") else 1
    return {name: {0: "batch", last: "sequence"} for name in inputs} | {
        name: {0: "batch"} for name in outputs
    }


def make(folder: Path, name: str, changes: dict, options: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    attention = options.get("attention", "sdpa")
    config = tiny_albert.config(**changes, attn_implementation=attention)
    model = tiny_albert.model(name, config, **options.get("model", {}))
    if options.get("half"):
        model = model.half()
    inputs, outputs = options.get("inputs", INPUTS), options.get("outputs", ["logits"])
    fixed = options.get("fixed") or ((2, 7) if options.get("fixed_length") else None)
    feeds = answers.batches(choices=options.get("choices", 0), fixed=fixed)
    # The classes take input_ids, attention_mask, token_type_ids in this order.
    module = Wrapped(model, options["wrap"], inputs) if "wrap" in options else model
    if module is model:
        model.config.return_dict = False
    arguments = tuple(torch.from_numpy(feeds[-1][key].copy()) for key in inputs)
    named = {"input_names": inputs, "output_names": outputs, "dynamic_axes": axes(inputs, outputs, options)}
    if not options.get("names", True):
        named = {}
        feeds = answers.batches(fixed=feeds[-1]["input_ids"].shape)
    torch.onnx.export(
        module,
        arguments,
        str(folder / "model.onnx"),
        opset_version=options.get("opset", 14),
        **({"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}),
        **named,
        **options.get("export", {}),
    )
    tiny_albert.save_source(folder, model)
    answers.answer_with_onnxruntime(folder / "model.onnx", feeds)


def main(target: Path, chosen: list[str]) -> None:
    warnings.simplefilter("ignore")
    for case, (name, changes, options) in CASES.items():
        if not chosen or case in chosen:
            try:
                make(target / case, name, changes, options)
                print(case, (target / case / "model.onnx").stat().st_size, flush=True)
            except Exception as error:  # one case that a tool refuses must not stop the others
                print(case, "FAILED", repr(error)[:600], flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
