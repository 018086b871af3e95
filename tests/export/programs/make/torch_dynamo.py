"""Programs of torch.onnx's newer exporter (dynamo=True), from transformers' ALBERT classes.

    python torch_dynamo.py FOLDER

Tried with torch 2.13.0, onnxscript 0.7.2, transformers 4.57.6, ONNX Runtime 1.32.0.
"""

import sys
import warnings
from pathlib import Path

import answers
import onnx
import tiny_albert
import torch

INPUTS = ["input_ids", "attention_mask", "token_type_ids"]
HIDDEN = ["last_hidden_state", "pooler_output"]
CASES = {
    "model": ("AlbertModel", {}, {"outputs": HIDDEN}),
    "model-eager": ("AlbertModel", {}, {"outputs": HIDDEN, "attention": "eager"}),
    "model-external": ("AlbertModel", {}, {"outputs": HIDDEN, "export": {"external_data": True}}),
    "model-unoptimized": (
        "AlbertModel",
        {"num_hidden_layers": 2},
        {"outputs": HIDDEN, "export": {"optimize": False}},
    ),
    "model-fixed": ("AlbertModel", {}, {"outputs": HIDDEN, "fixed": (1, 16)}),
    "model-ids-only": ("AlbertModel", {}, {"outputs": HIDDEN, "inputs": INPUTS[:1]}),
    "model-gelu": ("AlbertModel", {"hidden_act": "gelu"}, {"outputs": HIDDEN}),
    "model-relu": ("AlbertModel", {"hidden_act": "relu"}, {"outputs": HIDDEN}),
    "model-opset20": (
        "AlbertModel",
        {"hidden_act": "gelu"},
        {"outputs": HIDDEN, "export": {"opset_version": 20}},
    ),
    "model-opset18": ("AlbertModel", {}, {"outputs": HIDDEN, "export": {"opset_version": 18}}),
    "model-opset23": (
        "AlbertModel",
        {},
        {"outputs": HIDDEN, "export": {"opset_version": 23}},
    ),  # onnx 1.18 or later
    "model-groups": ("AlbertModel", {"num_hidden_layers": 2, "num_hidden_groups": 2}, {"outputs": HIDDEN}),
    "model-inner": ("AlbertModel", {"num_hidden_layers": 2, "inner_group_num": 2}, {"outputs": HIDDEN}),
    "model-half": ("AlbertModel", {}, {"outputs": HIDDEN, "half": True}),
    "sequence-classification": ("AlbertForSequenceClassification", {"num_labels": 3}, {}),
    "sequence-classification-external": (
        "AlbertForSequenceClassification",
        {"num_labels": 3},
        {"export": {"external_data": True}},
    ),
    "token-classification": ("AlbertForTokenClassification", {"num_labels": 5}, {}),
    "masked-lm": ("AlbertForMaskedLM", {}, {}),
    "question-answering": ("AlbertForQuestionAnswering", {}, {"outputs": ["start_logits", "end_logits"]}),
    "pretraining": ("AlbertForPreTraining", {}, {"outputs": ["prediction_logits", "sop_logits"]}),
    "multiple-choice": ("AlbertForMultipleChoice", {}, {"choices": 2}),
}


def make(folder: Path, name: str, changes: dict, options: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config = tiny_albert.config(
        **changes, attn_implementation=options.get("attention", "sdpa"), return_dict=False
    )
    model = tiny_albert.model(name, config)
    if options.get("half"):
        model = model.half()
    inputs, outputs = options.get("inputs", INPUTS), options.get("outputs", ["logits"])
    fixed = options.get("fixed")
    feeds = answers.batches(choices=options.get("choices", 0), fixed=fixed)
    last = 2 if options.get("choices") else 1
    shape = {0: torch.export.Dim("batch", max=64), last: torch.export.Dim("sequence", max=40)}
    torch.onnx.export(
        model,
        (),
        str(folder / "model.onnx"),
        kwargs={key: torch.from_numpy(feeds[-1][key].copy()) for key in inputs},
        input_names=inputs,
        output_names=outputs,
        dynamic_shapes=None if fixed else {key: shape for key in inputs},
        dynamo=True,
        verbose=False,
        **{"external_data": False, **options.get("export", {})},
    )
    drop_stack_traces(folder / "model.onnx")
    tiny_albert.save_source(folder, model)
    answers.answer_with_onnxruntime(folder / "model.onnx", feeds)


def drop_stack_traces(file: Path) -> None:
    """Leaves out the Python lines that the exporter notes with each node: they have paths of this machine."""
    program = onnx.load(str(file), load_external_data=False)
    functions = [node for function in program.functions for node in function.node]
    for item in [*program.graph.node, *functions, *program.graph.value_info, program.graph, program]:
        kept = [entry for entry in item.metadata_props if not entry.key.endswith(".stack_trace")]
        if len(kept) < len(item.metadata_props):
            del item.metadata_props[:]
            item.metadata_props.extend(kept)
    file.write_bytes(program.SerializeToString())


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
