"""Folders of TensorFlow checkpoints: which checkpoint, what its config says, whose head the tensors are."""

import glob
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from albert_runtime.errors import ArtifactError

from ...errors import ExportError
from ..config_json import TENSORFLOW, CheckpointConfig, parse_config
from ..stored_tensor import StoredTensor, StoredTensors, shown
from .bundle import INDEX
from .names import SQUAD_V2, is_brightmart, model_tensors

# In the order in which a folder is searched. Google's file, then brightmart's albert_config_tiny.json and so
# on, then the name that BERT's scripts give it.
_CONFIGS = ("albert_config.json", "albert_config*.json", "bert_config*.json")
# What BertConfig of albert_zh fills in; Google's defaults are in ``config_json``.
_BRIGHTMART_DEFAULTS = {
    "hidden_size": 768,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "type_vocab_size": 16,
}
_LATEST = re.compile(r'^model_checkpoint_path: "([^"\n]+)"', re.MULTILINE)
_MAX_STATE_BYTES = 1 << 20
_LABELS = ("num_labels", "num_classes", "id2label", "label2id")
_OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"
_TANH = "gelu is TensorFlow's, the tanh form, gelu_new elsewhere"


def config_file(folder: Path) -> Path | None:
    """The config that Google's or brightmart's code reads; ExportError if the folder holds several."""
    for pattern in _CONFIGS:
        found = sorted(path for path in folder.glob(pattern) if path.is_file())
        if len(found) > 1:
            raise ExportError(
                f"{folder} holds {', '.join(shown(path.name) for path in found)}; "
                "rename the one that counts to albert_config.json"
            )
        if found:
            return found[0]
    return None


def index_of_prefix(path: Path) -> Path | None:
    """The index of the checkpoint that TensorFlow calls ``path``, or ``path`` itself if it is one."""
    if not path.name:
        return None
    index = path if path.name.endswith(INDEX) else path.with_name(path.name + INDEX)
    return index if index.is_file() else None


def find_index(folder: Path) -> Path | None:
    """The index of a folder's only checkpoint, or of the one that its file ``checkpoint`` names.

    None if the folder holds none. Raises ExportError if it holds several and nothing tells which counts.
    """
    found = [path for path in sorted(folder.glob(f"*{INDEX}")) if _has_data(path)]
    if len(found) < 2:
        return found[0] if found else None
    latest = _latest(folder)
    for path in found:
        if path.name == f"{latest}{INDEX}":
            return path
    names = ", ".join(shown(path.name.removesuffix(INDEX)) for path in found[:8])
    raise ExportError(f"{folder} holds several checkpoints ({names}); give one as MODEL: {folder}/NAME")


def _has_data(index: Path) -> bool:
    """Other programs call their files .index, too."""
    prefix = glob.escape(index.name.removesuffix(INDEX))
    return any(index.parent.glob(f"{prefix}.data-?????-of-?????"))


def _latest(folder: Path) -> str | None:
    """The name of the checkpoint that TensorFlow wrote last, wherever the folder lay then."""
    state = folder / "checkpoint"
    if not state.is_file() or state.stat().st_size > _MAX_STATE_BYTES:
        return None
    match = _LATEST.search(state.read_text(encoding="utf-8", errors="replace"))
    return None if match is None else re.split(r"[/\\]", match[1])[-1]


def lowercase_in_tensorflow(folder: Path) -> bool | None:
    """True, the default of both codes' --do_lower_case, unless the folder has files that say what to do."""
    told = any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))
    return None if told else True


def describe(values: Mapping[str, object], stored: StoredTensors, *, googles: bool) -> CheckpointConfig:
    """The model of a config and the tensors it goes with.

    Args:
        values: The config's fields; one that is null counts as left out.
        stored: The checkpoint's tensors by TensorFlow's names; empty for random weights.
        googles: Google's code reads the config, whose words are its own, rather than transformers.

    Raises:
        ArtifactError: A field of the config is wrong.
        ExportError: The checkpoint is none that this can read.
    """
    fields = {name: value for name, value in values.items() if value is not None}
    if _OBJECTS in stored:
        raise ExportError(
            "the checkpoint is one of TensorFlow 2's objects, not of the code of google-research/albert or "
            "albert_zh; load it where it was made and save it with transformers' save_pretrained"
        )
    if fields.get("ln_type", "postln") != "postln":
        # The tensors have the same names and shapes, so that nothing else would tell.
        raise ExportError(
            f"ln_type is {fields['ln_type']!r:.40}: LayerNorm comes before attention and feed-forward, which "
            "no ALBERT of PaddleNLP or transformers computes; only postln can be exported"
        )
    notes = []
    if is_brightmart(stored):
        fields = {**_BRIGHTMART_DEFAULTS, **fields}
        fields["embedding_size"] = fields["hidden_size"]
        notes.append("albert_zh's word table in two factors is multiplied out")
        if "ln_type" not in fields:
            notes.append("no ln_type in the config: LayerNorm is taken to follow attention (postln)")
    activation = fields.get("hidden_act", "gelu")
    if googles and isinstance(activation, str) and activation.lower() == "gelu":
        # Google's code has one gelu, and albert_zh's code has the same.
        fields["hidden_act"] = "gelu_new"
        notes.append(_TANH)
    tensors = model_tensors(stored)
    if tensors and "architectures" not in fields:
        fields["architectures"] = [_architecture(tensors)]
    classifier = tensors.get("classifier.weight")
    if isinstance(classifier, StoredTensor) and fields.keys().isdisjoint(_LABELS):
        fields["num_labels"] = classifier.shape[0] if classifier.shape else 0
    description = parse_config(fields, TENSORFLOW)
    if googles:
        _check_groups(description)
    return replace(description, notes=tuple(notes))


def _architecture(tensors: StoredTensors) -> str:
    """transformers' class for the heads that are there."""
    if "classifier.weight" in tensors:
        return "AlbertForSequenceClassification"
    if "qa_outputs.weight" in tensors:
        return "AlbertForQuestionAnswering"
    if any(name.startswith(SQUAD_V2) for name in tensors):
        return "of run_squad_v2 (its end scores need a search from the best starts)"
    if "predictions.bias" not in tensors:
        return "AlbertModel"
    if "sop_classifier.classifier.weight" in tensors:
        return "AlbertForPreTraining"
    return "AlbertForMaskedLM"


def _check_groups(description: CheckpointConfig) -> None:
    """Google's code and transformers round differently; where that matters no program of ours is right."""
    config = description.config
    layers, groups = config.num_hidden_layers, config.num_hidden_groups
    for layer in range(layers):
        if int(layer / layers * groups) != config.group_of_layer(layer):
            raise ArtifactError(
                f"Google's code computes layer {layer} of {layers} with another of the {groups} groups than "
                "transformers and PaddleNLP do; such a model cannot be exported"
            )
