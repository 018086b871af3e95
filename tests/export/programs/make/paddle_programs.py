"""Programs of paddle.jit.save, from PaddleNLP's ALBERT classes.

The input specs are the right three, and those of PaddleNLP's own scripts.

    FLAGS_enable_pir_api=0 python paddle_programs.py FOLDER [CASE...]   writes .pdmodel (so does paddle 2.6)
    python paddle_programs.py FOLDER [CASE...]                          writes .json (paddle 3)

Tried with paddlenlp 3.0.0b4 on paddlepaddle 3.1.1, and paddlenlp 2.8.1 on paddlepaddle 2.6.2
(huggingface_hub<0.26); both want aistudio-sdk==0.2.6, pyarrow<20, numpy<2.
"""

import gc
import sys
from pathlib import Path

import answers
import numpy as np
import paddle
import paddle.inference
import paddlenlp.transformers
from paddle.base.proto import framework_pb2

RIGHT = ["input_ids", "attention_mask", "token_type_ids"]
NAMED_TWO = [
    "input_ids",
    "token_type_ids",
]  # the second argument of ALBERT's forward is the mask: it is bound to that
TASKS = {
    "model": ("AlbertModel", {}),
    "sequence-classification": ("AlbertForSequenceClassification", {"num_labels": 3}),
    "token-classification": ("AlbertForTokenClassification", {"num_labels": 5}),
    "question-answering": ("AlbertForQuestionAnswering", {}),
    "masked-lm": ("AlbertForMaskedLM", {}),
    "multiple-choice": ("AlbertForMultipleChoice", {}),
    "pretraining": ("AlbertForPretraining", {}),
}
# name: (class, config changes, names of the input specs; a number stands for that many specs without names)
CASES = {task: (*made, RIGHT) for task, made in TASKS.items()}
CASES |= {
    f"{task}-two-inputs": (*made, 2)
    for task, made in TASKS.items()
    if task not in ("multiple-choice", "pretraining")
}
CASES |= {f"{task}-two-named": (*TASKS[task], NAMED_TWO) for task in ("model", "sequence-classification")}
CASES |= {
    f"{task}-ids-only": (*made, RIGHT[:1])
    for task, made in TASKS.items()
    if task not in ("multiple-choice", "pretraining")
}
CASES |= {
    "model-gelu": ("AlbertModel", {"hidden_act": "gelu"}, RIGHT),
    "model-relu": ("AlbertModel", {"hidden_act": "relu"}, RIGHT),
    "model-groups": ("AlbertModel", {"num_hidden_layers": 4, "num_hidden_groups": 2}, RIGHT),
    "model-inner": ("AlbertModel", {"num_hidden_layers": 2, "inner_group_num": 2}, RIGHT),
    "model-no-pooler": ("AlbertModel", {"add_pooling_layer": False}, RIGHT),
    "model-no-padding-id": ("AlbertModel", {"pad_token_id": None}, RIGHT),
    "model-padding-id-3": ("AlbertModel", {"pad_token_id": 3}, RIGHT),
    "model-fixed": ("AlbertModel", {}, RIGHT),
    "sequence-classification-regression": ("AlbertForSequenceClassification", {"num_labels": 1}, RIGHT),
    "sequence-classification-softmax": ("AlbertForSequenceClassification", {"num_labels": 3}, RIGHT),
}


class Softmax(paddle.nn.Layer):
    """A classifier whose program ends in probabilities."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, input_ids, attention_mask, token_type_ids):
        return paddle.nn.functional.softmax(self.inner(input_ids, attention_mask, token_type_ids))


def tiny(name: str, changes: dict):
    settings = {**answers.SIZES, "hidden_act": "gelu_new", "pad_token_id": 0}
    settings |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = getattr(paddlenlp.transformers, name)(
        paddlenlp.transformers.AlbertConfig(**{**settings, **changes})
    )
    model.eval()
    rng = np.random.default_rng(0)
    norms = {id(layer.weight) for layer in model.sublayers() if isinstance(layer, paddle.nn.LayerNorm)}
    for parameter in model.parameters():  # a tied weight is one parameter and stays tied
        parameter.set_value(rng.normal(float(id(parameter) in norms), 0.2, parameter.shape).astype("float32"))
    return model


def specs(names: "list[str] | int", rank: int, fixed: bool) -> list:
    shape = [1, 16] if fixed else [None] * rank
    if isinstance(names, int):
        return [paddle.static.InputSpec(shape=shape, dtype="int64") for _ in range(names)]
    return [paddle.static.InputSpec(shape=shape, dtype="int64", name=name) for name in names]


def answer(folder: Path, feeds: list[dict]) -> None:
    """Runs the program with Paddle Inference, inputs fed by the file's names, and writes io.npz."""
    program = next(file for file in (folder / "model.json", folder / "model.pdmodel") if file.exists())
    settings = paddle.inference.Config(str(program), str(folder / "model.pdiparams"))
    if hasattr(settings, "disable_mkldnn"):  # on by default in paddle 3.1
        settings.disable_mkldnn()
    settings.disable_glog_info()
    settings.switch_ir_optim(False)
    predictor = paddle.inference.create_predictor(settings)
    given, results = [], []
    for feed in feeds:
        given.append({name: np.ascontiguousarray(feed[name]) for name in predictor.get_input_names()})
        for name, value in given[-1].items():
            handle = predictor.get_input_handle(name)
            handle.reshape(value.shape)
            handle.copy_from_cpu(value)
        predictor.run()
        results.append(
            {name: predictor.get_output_handle(name).copy_to_cpu() for name in predictor.get_output_names()}
        )
    assert all(np.isfinite(value).all() for result in results for value in result.values()), folder
    answers.save(folder / "io.npz", given, results)


def drop_call_stacks(file: Path) -> None:
    """Leaves out the Python lines that Paddle notes with each operator: they have paths of this machine."""
    program = framework_pb2.ProgramDesc.FromString(file.read_bytes())
    for operator in (operator for block in program.blocks for operator in block.ops):
        kept = [attribute for attribute in operator.attrs if attribute.name != "op_callstack"]
        del operator.attrs[:]
        operator.attrs.extend(kept)
    file.write_bytes(program.SerializeToString())


def make(folder: Path, case: str, name: str, changes: dict, names: "list[str] | int") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model = tiny(name, changes)
    state = {key: value.numpy() for key, value in model.state_dict().items()}
    answers.save_source(folder, {**model.config.to_dict(), "architectures": [name]}, state)
    choices, fixed = (2 if name == "AlbertForMultipleChoice" else 0), case.endswith("fixed")
    traced = Softmax(model) if case.endswith("softmax") else model
    traced.eval()
    traced = paddle.jit.to_static(traced, input_spec=specs(names, 3 if choices else 2, fixed))
    paddle.jit.save(traced, str(folder / "model"))
    if (folder / "model.pdmodel").exists():
        drop_call_stacks(folder / "model.pdmodel")
    answer(folder, answers.batches(choices=choices, fixed=(1, 16) if fixed else None))
    gc.collect()


def main(target: Path, chosen: list) -> None:
    for case, (name, changes, names) in CASES.items():
        if not chosen or case in chosen:
            try:
                make(target / case, case, name, changes, names)
                print(case, [(f.name, f.stat().st_size) for f in (target / case).glob("model*")], flush=True)
            except Exception as error:  # one case that a tool refuses must not stop the others
                print(case, "FAILED", repr(error)[-900:], flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
