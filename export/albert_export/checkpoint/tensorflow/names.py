"""From the tensors of TensorFlow's ALBERTs to those of our model: names, and the two layouts of embeddings.

google-research/albert stores what our model has; where embeddings are as wide as the layers it has no
embedding_hidden_mapping_in, which is the identity then. brightmart's albert_zh is a BERT with one shared
layer and a word table in two factors:

    embeddings = LayerNorm(words[id] @ words_2 + positions + types)   [H], no map behind it

That is an ALBERT whose embeddings have H columns: its word table is words @ words_2, its map the identity.
The masked-LM head multiplies by the same two factors, so that it stays tied to the word table.
"""

import re
from dataclasses import replace

import numpy as np

from ..stored_tensor import StoredTensor, StoredTensors

WORDS = "embeddings.word_embeddings.weight"
MAPPING = "encoder.embedding_hidden_mapping_in"
# The head of Google's run_squad_v2; the names start as those of a head, so that a task may leave it unread.
SQUAD_V2 = "qa_outputs.v2."

_FACTOR = "embeddings.word_embeddings_2"
_LAYER = "encoder.albert_layer_groups.0.albert_layers.0."
# What optimizers keep beside a variable, as last part of its name, and counters of the training.
_SLOTS = {"adam_m", "adam_v", "lamb_m", "lamb_v", "Adam", "Adam_1", "Momentum", "RMSProp", "RMSProp_1"}
_SLOTS |= {"Adagrad", "m", "v", "ExponentialMovingAverage"}
_TRAINING = {"global_step", "AdamWeightDecayOptimizer", "AdamWeightDecayOptimizer_1", "LAMBOptimizer"}
_TRAINING |= {"beta1_power", "beta2_power", "loss_scale", "good_steps", "global_step_for_mlm"}
_LAST = {
    "kernel": "weight",
    "output_weights": "weight",
    "gamma": "weight",
    "bias": "bias",
    "output_bias": "bias",
    "beta": "bias",
}
# The start of a tensor's name in TensorFlow, and in our model. The first that fits counts.
_GROUPS = r"encoder/transformer/group_(\d+)/inner_group_(\d+)/"
_GOOGLE_LAYER = r"encoder.albert_layer_groups.\1.albert_layers.\2."
_RULES = [
    (r"embeddings/(word|position|token_type)_embeddings", r"embeddings.\1_embeddings.weight"),
    (r"embeddings/word_embeddings_2", _FACTOR),
    (r"embeddings/LayerNorm/", "embeddings.layer_norm."),
    (r"encoder/embedding_hidden_mapping_in/", MAPPING + "."),
    (r"pooler/dense/", "pooler."),
    (_GROUPS + r"attention_1/self/(query|key|value)/", _GOOGLE_LAYER + r"attention.\3."),
    (_GROUPS + r"attention_1/output/dense/", _GOOGLE_LAYER + "attention.dense."),
    (_GROUPS + r"LayerNorm/", _GOOGLE_LAYER + "attention.layer_norm."),
    (_GROUPS + r"ffn_1/intermediate/dense/", _GOOGLE_LAYER + "ffn."),
    (_GROUPS + r"ffn_1/intermediate/output/dense/", _GOOGLE_LAYER + "ffn_output."),
    (_GROUPS + r"LayerNorm_1/", _GOOGLE_LAYER + "full_layer_layer_norm."),
    (r"encoder/layer_shared/attention/self/(query|key|value)/", _LAYER + r"attention.\1."),
    (r"encoder/layer_shared/attention/output/dense/", _LAYER + "attention.dense."),
    (r"encoder/layer_shared/attention/output/LayerNorm/", _LAYER + "attention.layer_norm."),
    (r"encoder/layer_shared/intermediate/dense/", _LAYER + "ffn."),
    (r"encoder/layer_shared/output/dense/", _LAYER + "ffn_output."),
    (r"encoder/layer_shared/output/LayerNorm/", _LAYER + "full_layer_layer_norm."),
    (r"cls/predictions/transform/dense/", "predictions.dense."),
    (r"cls/predictions/transform/LayerNorm/", "predictions.layer_norm."),
    (r"cls/predictions/", "predictions."),
    (r"cls/seq_relationship/", "sop_classifier.classifier."),
    (r"cls/squad/", "qa_outputs."),
    (r"((?:start_logits|end_logits|answer_class)/.+)", SQUAD_V2 + r"\1"),
    (r"(?=output_(?:weights|bias)$)", "classifier."),
]


def model_name(name: str) -> str | None:
    """Our name of a tensor; None for what is not the model's: optimizer's slots, counters."""
    parts = name.removeprefix("module/").split("/")
    if parts[-1] in _SLOTS or not _TRAINING.isdisjoint(parts):
        return None
    path = "/".join(parts).removeprefix("bert/")
    for pattern, start in _RULES:
        match = re.match(pattern, path)
        if match is None:
            continue
        rest = path[match.end() :]
        if rest == "" and not start.endswith("."):
            return match.expand(start)
        if rest in _LAST and start.endswith("."):
            return match.expand(start) + _LAST[rest]
    return name


def stored_as_rows(name: str) -> bool:
    """Whether TensorFlow stores this linear map as [out, in]: heads, which are no tf.layers.dense."""
    return name in ("classifier.weight", "qa_outputs.weight", "sop_classifier.classifier.weight")


def model_tensors(stored: StoredTensors) -> StoredTensors:
    """The model's tensors under our names, in TensorFlow's layouts; unknown ones under their own names."""
    tensors = {}
    for name, value in stored.items():
        ours = model_name(name)
        if ours is not None:
            tensors[name if ours in tensors else ours] = value
    factor, words = tensors.get(_FACTOR), tensors.get(WORDS)
    if isinstance(factor, StoredTensor) and isinstance(words, StoredTensor) and _fit(words, factor):
        del tensors[_FACTOR]
        tensors[WORDS] = _product(words, factor)
        _add_identity(tensors, words, factor.shape[1])
    elif isinstance(words, StoredTensor) and _is_as_wide_as_layers(tensors, words):
        _add_identity(tensors, words, words.shape[1])
    return tensors


def is_brightmart(stored: StoredTensors) -> bool:
    """Whether the word table is in two factors, as in brightmart's albert_zh."""
    return any(model_name(name) == _FACTOR for name in stored)


def _fit(words: StoredTensor, factor: StoredTensor) -> bool:
    return len(words.shape) == len(factor.shape) == 2 and words.shape[1] == factor.shape[0]


def _product(words: StoredTensor, factor: StoredTensor) -> StoredTensor:
    def raw() -> np.ndarray:
        return words.float32().astype(np.float64) @ factor.float32().astype(np.float64)

    return replace(words, shape=(words.shape[0], factor.shape[1]), dtype="float64", raw=raw)


def _is_as_wide_as_layers(tensors: StoredTensors, words: StoredTensor) -> bool:
    query = tensors.get(f"{_LAYER}attention.query.weight")
    return (
        not any(name.startswith(MAPPING) for name in tensors)
        and isinstance(query, StoredTensor)
        and len(words.shape) == 2
        and query.shape[:1] == words.shape[1:]
    )


def _add_identity(tensors: StoredTensors, words: StoredTensor, hidden: int) -> None:
    if any(name.startswith(MAPPING) for name in tensors):
        return  # then this is no layout of ours, and shapes will tell
    weight, bias = f"{MAPPING}.weight", f"{MAPPING}.bias"
    matrix = StoredTensor(
        words.path, weight, (hidden, hidden), "float32", lambda: np.eye(hidden, dtype=np.float32)
    )
    tensors[weight] = matrix
    tensors[bias] = StoredTensor(words.path, bias, (hidden,), "float32", lambda: np.zeros(hidden, np.float32))
