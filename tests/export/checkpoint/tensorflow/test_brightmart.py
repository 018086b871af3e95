"""Checkpoints of brightmart's albert_zh against transformers' BERT, which is what its code computes.

Every layer has the shared layer's weights, and the word table is the product of the two factors.
"""

import json

import numpy as np
import pytest

from albert_export.checkpoint.folder import read_folder
from albert_export.errors import ExportError
from albert_runtime.artifact import tasks

from ...albert_float64 import answers
from ..test_huggingface import difference, make_inputs
from .models import BRIGHTMART_CONFIG, brightmart, slots, write_folder
from .test_google import read

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

CONFIG = BRIGHTMART_CONFIG


def bert(tensors, class_name, **options):
    """transformers' BERT in float64 with the shared layer in every place."""
    names = (
        "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size "
        "max_position_embeddings type_vocab_size"
    )
    sizes = {name: CONFIG[name] for name in names.split()}
    settings = transformers.BertConfig(**sizes, hidden_act="gelu_new", layer_norm_eps=1e-12, **options)
    model = getattr(transformers, class_name)(settings).double().eval()
    spelled = {"gamma": "weight", "beta": "bias", "kernel": "weight"}
    heads = {"output_weights": "weight", "output_bias": "bias"}
    state = {}
    for name, value in tensors.items():
        if name.endswith("word_embeddings_2"):
            continue
        parts = name.split("/")
        exact = value.astype(np.float64)
        if parts[-1] == "kernel":
            exact = exact.T.copy()
        if name.endswith("word_embeddings"):
            exact = exact @ tensors[name + "_2"].astype(np.float64)
        if parts[-1].endswith("_embeddings"):
            parts.append("weight")
        parts[-1] = spelled.get(parts[-1], parts[-1])
        if name.startswith("output_"):
            parts = ["classifier", heads[name]]
        elif name.startswith(("cls/squad", "cls/seq_relationship")):
            parts = [*(("qa_outputs",) if "squad" in name else parts[:2]), heads[parts[-1]]]
        elif name == "cls/predictions/output_bias":
            parts = ["cls", "predictions", "bias"]
        for layer in range(CONFIG["num_hidden_layers"]):
            state[".".join(parts).replace("layer_shared", f"layer.{layer}")] = torch.from_numpy(exact)
    if class_name == "BertModel":
        state = {name.removeprefix("bert."): value for name, value in state.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert all("decoder" in name or "position_ids" in name for name in missing), missing
    model.tie_weights()
    return model


def theirs(model, inputs):
    names = {
        "last_hidden_state": "last_hidden_state",
        "pooler_output": "pooled_output",
        "prediction_logits": "prediction_scores",
        "seq_relationship_logits": "sop_logits",
        "logits": "logits",
        "start_logits": "start_logits",
        "end_logits": "end_logits",
    }
    with torch.no_grad():
        result = model(**{name: torch.from_numpy(value) for name, value in inputs.items()})
    return {names[name]: value.numpy() for name, value in result.items()}


CASES = {
    tasks.MODEL: ((), "BertModel"),
    tasks.PRETRAINING: (("predictions", "seq_relationship"), "BertForPreTraining"),
    tasks.SEQUENCE_CLASSIFICATION: (("classifier",), "BertForSequenceClassification"),
    tasks.QUESTION_ANSWERING: (("squad",), "BertForQuestionAnswering"),
}


@pytest.mark.parametrize("task", CASES)
def test_same_answers_as_a_bert_whose_layers_are_shared(tmp_path, task):
    heads, class_name = CASES[task]
    tensors = brightmart(CONFIG, *heads)
    known = {name: value for name, value in tensors.items() if "squad" not in heads or "pooler" not in name}
    model = bert(known, class_name, **({"num_labels": 3} if "classifier" in heads else {}))
    folder = write_folder(tmp_path, CONFIG, slots(tensors))
    config, head, ours, _ = read(folder)
    assert (head.task, config.embedding_size, config.hidden_size) == (task, 24, 24)
    inputs = make_inputs(task)
    # The product of the word table's factors is rounded to float32 once.
    wanted = theirs(model, inputs)
    assert difference(answers(config, head, ours, inputs), wanted, inputs["attention_mask"]) < 2e-6


def test_a_config_that_leaves_fields_out_has_bertconfigs_defaults(tmp_path):
    """albert_zh's BertConfig is not Google's: 768 columns in 12 heads, and 16 types."""
    folder = write_folder(tmp_path, {"vocab_size": 61, "ln_type": None}, brightmart(CONFIG))
    description = read_folder(folder).description
    config = description.config
    assert "no ln_type in the config: LayerNorm is taken to follow attention (postln)" in description.notes
    assert (config.hidden_size, config.num_attention_heads, config.intermediate_size) == (768, 12, 3072)
    assert (config.embedding_size, config.type_vocab_size) == (768, 16)


def test_a_config_by_brightmarts_name(tmp_path):
    folder = write_folder(tmp_path, CONFIG, brightmart(CONFIG), name="albert_model.ckpt")
    (folder / "albert_config.json").rename(folder / "albert_config_tiny.json")
    assert read_folder(folder).description.config.hidden_size == 24
    (folder / "albert_config_base.json").write_text(json.dumps(CONFIG))
    with pytest.raises(
        ExportError, match=r"albert_config_base.json, albert_config_tiny.json; rename the one"
    ):
        read_folder(folder)


def test_layers_that_are_not_shared_are_told(tmp_path):
    tensors = brightmart(CONFIG)
    split = {name.replace("layer_shared", "layer_0"): value for name, value in tensors.items()}
    with pytest.raises(ExportError, match=r"unexpected: bert/encoder/layer_0/"):
        read(write_folder(tmp_path, CONFIG, split))
