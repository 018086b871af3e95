"""Checkpoints that transformers itself writes: our reading of them, in float64, against its own answers."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from albert_export.checkpoint.config_json import HUGGING_FACE
from albert_export.checkpoint.folder import read_folder
from albert_export.errors import ExportError
from albert_export.sources import checkpoint_source
from albert_runtime.artifact import tasks
from albert_runtime.errors import ArtifactError

from ..albert_float64 import answers

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)

CLASSES = {
    tasks.MODEL: "AlbertModel",
    tasks.MASKED_LM: "AlbertForMaskedLM",
    tasks.PRETRAINING: "AlbertForPreTraining",
    tasks.SEQUENCE_CLASSIFICATION: "AlbertForSequenceClassification",
    tasks.TOKEN_CLASSIFICATION: "AlbertForTokenClassification",
    tasks.QUESTION_ANSWERING: "AlbertForQuestionAnswering",
    tasks.MULTIPLE_CHOICE: "AlbertForMultipleChoice",
}
# Our names of transformers' outputs.
OUTPUTS = {
    "last_hidden_state": "last_hidden_state",
    "pooler_output": "pooled_output",
    "start_logits": "start_logits",
    "end_logits": "end_logits",
    "sop_logits": "sop_logits",
    "prediction_logits": "prediction_scores",
}
SIZES = {
    "vocab_size": 61,
    "embedding_size": 12,
    "hidden_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 16,
    "hidden_act": "gelu_new",
    # Large enough to show in an answer, were the decoder's LayerNorm to have another.
    "layer_norm_eps": 1e-3,
}


def make(task, *, seed=0, **changes):
    """A model of transformers whose every parameter matters."""
    sizes = {**SIZES, **({"num_labels": 3} if task in tasks.LABELLED else {}), **changes}
    model = getattr(transformers, CLASSES[task])(transformers.AlbertConfig(**sizes)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if name.endswith("Norm.weight") else 0.0, 0.3, generator=generator)
    return model


def make_inputs(task, vocab_size=61):
    generator = np.random.default_rng(2)
    shape = (3, 2, 9) if task == tasks.MULTIPLE_CHOICE else (4, 9)
    lengths = generator.integers(2, 10, shape[:-1])
    lengths.flat[0] = 9
    mask = (np.arange(9) < lengths[..., None]).astype(np.int64)
    ids = generator.integers(0, vocab_size, shape) * mask
    ids[..., 1] = 0  # transformers looks the pad token's row up as it is
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": generator.integers(0, 2, shape),
    }


def theirs(model, task, inputs):
    """What transformers answers in float64, under our names."""
    with torch.no_grad():
        result = model.double()(**{name: torch.from_numpy(value) for name, value in inputs.items()})
    names = {**OUTPUTS, "logits": "prediction_scores" if task == tasks.MASKED_LM else "logits"}
    return {names[name]: value.numpy() for name, value in result.items()}


def read(folder, task=None):
    """(config, head, tensors, left out) of a folder."""
    checkpoint = read_folder(folder)
    description = checkpoint.description
    assert description.library == HUGGING_FACE
    plan = checkpoint_source(
        description, checkpoint.weights_file(), task or description.task(), task_given=task is not None
    )
    tensors, left_out = plan.weights.load(plan.config, plan.head)
    return plan.config, plan.head, dict(tensors), left_out


def difference(ours, wanted, mask):
    """The largest difference at unmasked positions."""
    assert ours.keys() == wanted.keys()
    worst = 0.0
    for name, value in wanted.items():
        per_token = value.shape[: mask.ndim] == mask.shape
        kept = mask.astype(bool) if per_token else np.s_[:]
        worst = max(worst, float(np.abs(ours[name][kept] - value[kept]).max()))
    return worst


def check(folder, model, task, tolerance=1e-9):
    config, head, tensors, left_out = read(folder)
    assert head.task == task and left_out == []
    assert config.padding_idx is None and head.decoder_norm_eps == config.layer_norm_eps
    inputs = make_inputs(task)
    assert (
        difference(
            answers(config, head, tensors, inputs), theirs(model, task, inputs), inputs["attention_mask"]
        )
        < tolerance
    )


# (More inner layers than layers of a group make transformers itself fail.)
@pytest.mark.parametrize(("groups", "inner", "safe"), [(1, 1, False), (2, 1, True), (2, 2, True)])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
@pytest.mark.parametrize("task", tasks.TASKS)
def test_same_answers_as_transformers(tmp_path, task, activation, groups, inner, safe):
    model = make(task, hidden_act=activation, num_hidden_groups=groups, inner_group_num=inner)
    model.save_pretrained(tmp_path, safe_serialization=safe)
    assert (tmp_path / ("model.safetensors" if safe else "pytorch_model.bin")).is_file()
    check(tmp_path, model, task)


@pytest.mark.parametrize(("layers", "groups"), [(5, 2), (18, 14)])  # 18 / 14: the rounding decides
def test_layers_that_are_no_multiple_of_the_groups(tmp_path, layers, groups):
    model = make(tasks.MODEL, num_hidden_layers=layers, num_hidden_groups=groups)
    model.save_pretrained(tmp_path)
    check(tmp_path, model, tasks.MODEL)


def test_the_numbers_would_tell_a_missed_transpose(tmp_path):
    """Square maps pass every check of shapes: each of them, turned, must change the answers."""
    model = make(tasks.SEQUENCE_CLASSIFICATION, embedding_size=24, intermediate_size=24)
    model.save_pretrained(tmp_path)
    config, head, tensors, _ = read(tmp_path)
    inputs = make_inputs(head.task)
    wanted = theirs(model, head.task, inputs)
    square = [name for name, value in tensors.items() if value.shape == (24, 24)]
    assert len(square) == 8
    for name in square:
        turned = answers(config, head, tensors | {name: tensors[name].T}, inputs)
        assert difference(turned, wanted, inputs["attention_mask"]) > 1e-3, name


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
@pytest.mark.parametrize("task", [tasks.MASKED_LM, tasks.PRETRAINING])
def test_untied_decoders(tmp_path, task, safe):
    model = make(task, tie_word_embeddings=False)
    model.save_pretrained(tmp_path, safe_serialization=safe)
    assert not read(tmp_path)[1].tied_decoder
    check(tmp_path, model, task)


def test_a_stored_decoder_that_transformers_overwrites(tmp_path):
    model = make(tasks.MASKED_LM, tie_word_embeddings=False)
    model.save_pretrained(tmp_path)
    edit_config(tmp_path, tie_word_embeddings=True)
    model = transformers.AlbertForMaskedLM.from_pretrained(tmp_path).eval()
    config, head, tensors, left_out = read(tmp_path)
    assert head.tied_decoder and left_out == ["predictions.decoder.weight"]
    inputs = make_inputs(head.task)
    ours, wanted = answers(config, head, tensors, inputs), theirs(model, head.task, inputs)
    assert difference(ours, wanted, inputs["attention_mask"]) < 1e-9


def test_two_biases_of_one_decoder(tmp_path):
    """Files of the first releases hold both; transformers loads the decoder's last."""
    model = make(tasks.MASKED_LM)
    model.save_pretrained(tmp_path, safe_serialization=False)
    state = dict(model.state_dict())
    torch.save({**state, "predictions.bias": state["predictions.bias"] + 1}, tmp_path / "pytorch_model.bin")
    loaded = transformers.AlbertForMaskedLM.from_pretrained(tmp_path).eval()
    config, head, tensors, left_out = read(tmp_path)
    assert len(left_out) == 1
    inputs = make_inputs(head.task)
    ours, wanted = answers(config, head, tensors, inputs), theirs(loaded, head.task, inputs)
    assert difference(ours, wanted, inputs["attention_mask"]) < 1e-9


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_shards(tmp_path, safe):
    model = make(tasks.PRETRAINING, num_hidden_groups=2)
    model.save_pretrained(tmp_path, safe_serialization=safe, max_shard_size="10KB")
    shards = sorted(tmp_path.glob("*-of-*"))
    assert len(shards) > 2
    check(tmp_path, model, tasks.PRETRAINING)
    shutil.move(shards[0], tmp_path / "elsewhere")
    with pytest.raises(ExportError, match=r"index\.json names .*00001-of-.*, which is not there"):
        read(tmp_path)
    shutil.copy(shards[1], shards[0])
    with pytest.raises(ArtifactError, match="which another file of the checkpoint holds too"):
        read(tmp_path)


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_floats(tmp_path, dtype, safe):
    model = make(tasks.QUESTION_ANSWERING).to(getattr(torch, dtype))
    model.save_pretrained(tmp_path, safe_serialization=safe)
    # Exact in float16 and bfloat16, rounded to float32 from float64.
    check(tmp_path, model, tasks.QUESTION_ANSWERING, 1e-4 if dtype == "float64" else 1e-9)


@pytest.mark.parametrize(
    "save",
    [
        lambda model, path: torch.save(model.state_dict(keep_vars=True), path),
        lambda model, path: torch.save(dict(model.state_dict()), path),
        lambda model, path: torch.save({k: v.T.contiguous().T for k, v in model.state_dict().items()}, path),
        lambda model, path: torch.save(model.state_dict(), path, pickle_protocol=4),
        lambda model, path: torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False),
    ],
    ids=["parameters", "plain dict", "strides", "protocol 4", "before torch 1.6"],
)
@pytest.mark.filterwarnings("ignore:The use of `x.T`")
def test_other_ways_to_save(tmp_path, save):
    model = make(tasks.MASKED_LM)
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    save(model, tmp_path / "pytorch_model.bin")
    check(tmp_path, model, tasks.MASKED_LM)


def edit_config(folder: Path, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_encoder_of_a_masked_lm(tmp_path):
    model = make(tasks.MASKED_LM)
    model.save_pretrained(tmp_path)
    config, head, tensors, left_out = read(tmp_path, tasks.MODEL)
    assert not config.add_pooling_layer and head.outputs(config) == ("last_hidden_state",)
    assert len(left_out) == 5
    inputs = make_inputs(tasks.MODEL)
    ours, wanted = answers(config, head, tensors, inputs), theirs(model.albert, tasks.MODEL, inputs)
    assert difference(ours, wanted, inputs["attention_mask"]) < 1e-9
    with pytest.raises(ExportError, match=r"missing: pooler\.weight, pooler\.bias, classifier\.weight"):
        read(tmp_path, tasks.SEQUENCE_CLASSIFICATION)


def test_a_model_without_a_pooler(tmp_path):
    model = transformers.AlbertModel(transformers.AlbertConfig(**SIZES), add_pooling_layer=False).eval()
    model.save_pretrained(tmp_path)
    config, head, tensors, _ = read(tmp_path)
    assert not config.add_pooling_layer
    inputs = make_inputs(tasks.MODEL)
    ours, wanted = answers(config, head, tensors, inputs), theirs(model, tasks.MODEL, inputs)
    assert difference(ours, wanted, inputs["attention_mask"]) < 1e-9


def test_labels_of_a_fine_tuned_model(tmp_path):
    names = {0: "O", 1: "B-PER", 2: "地名"}
    model = make(tasks.TOKEN_CLASSIFICATION)
    model.config.id2label, model.config.label2id = names, {name: index for index, name in names.items()}
    model.save_pretrained(tmp_path)
    assert read_folder(tmp_path).description.labels == ("O", "B-PER", "地名")


def test_names_of_paddlenlp_in_a_hugging_face_file(tmp_path, tiny, tiny_tensors):
    model = make(tasks.MODEL)
    model.save_pretrained(tmp_path, safe_serialization=False)
    state = {name.replace("LayerNorm", "layer_norm"): value for name, value in model.state_dict().items()}
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(
        ExportError, match=r"missing: embeddings\.layer_norm.*unexpected: embeddings\.layer_n"
    ):
        read(tmp_path)


def test_safetensors_of_paddlenlp(tmp_path, tiny, tiny_tensors, write_checkpoint):
    """PaddleNLP 3 saves .safetensors, too: its names tell, and nothing is transposed."""
    from safetensors.numpy import save_file

    write_checkpoint(tmp_path, tiny)
    save_file(tiny_tensors, tmp_path / "model.safetensors", {"format": "np"})
    checkpoint = read_folder(tmp_path)
    plan = checkpoint_source(checkpoint.description, checkpoint.weights_file(), tasks.MODEL, task_given=False)
    assert plan.config == replace(tiny, padding_idx=0)
    tensors, _ = plan.weights.load(plan.config, plan.head)
    for name, value in tensors:
        np.testing.assert_array_equal(value, tiny_tensors[name])
