"""LoRA adapters merged as peft merges them; recorded, see tests/data/lora/README.md."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from albert_export.errors import ExportError
from albert_runtime.artifact import tasks

from .test_huggingface import edit_config, make
from .test_wrappers import resolved, tensors_of

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")
transformers = pytest.importorskip("transformers")

DATA = Path(__file__).parents[2] / "data" / "lora"
TASKS = {
    "classifier": tasks.SEQUENCE_CLASSIFICATION,
    "patterns": tasks.SEQUENCE_CLASSIFICATION,
    "embedding": tasks.MODEL,
}


def peft_merged(folder, case):
    """What transformers would save of the model that peft's merge_and_unload returned, read by us."""
    task = TASKS[case]
    model = make(task)
    state = model.state_dict() | safetensors.load_file(DATA / case / "merged.safetensors")
    model.load_state_dict(state)
    model.save_pretrained(folder)
    return tensors_of(resolved(folder)[0])


def check(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-6, err_msg=name)


def base(folder, case, **changes):
    make(TASKS[case]).save_pretrained(folder)
    edit_config(folder, **changes)
    return folder


@pytest.mark.parametrize("case", TASKS)
@pytest.mark.parametrize("beside", [True, False])
def test_merged_as_peft_does(tmp_path, case, beside):
    """The base lies in the adapter's folder, or where adapter_config.json says: in base, beside or below."""
    wanted = peft_merged(tmp_path / "wanted", case)
    adapter = tmp_path / "mine"
    shutil.copytree(DATA / case, adapter)
    base(adapter if beside else adapter / "base", case)
    source, line = resolved(adapter)
    check(tensors_of(source), wanted)
    assert line.endswith(f"task {TASKS[case]}") and "adapter_model.safetensors" in str(source.weights.files)


def test_a_head_that_the_base_lacks(tmp_path):
    """As people train: on a pretrained encoder, the classifier only in modules_to_save."""
    wanted = peft_merged(tmp_path / "wanted", "classifier")
    adapter = tmp_path / "mine"
    shutil.copytree(DATA / "classifier", adapter)
    model = make(tasks.SEQUENCE_CLASSIFICATION)
    for folder, saved in ((adapter / "base", model.albert), (tmp_path / "base", model.albert)):
        saved.save_pretrained(folder)
    source, _ = resolved(adapter)
    check(tensors_of(source), wanted)
    assert source.head.num_labels == 3


def test_a_peft_model_saved_whole(tmp_path):
    wanted = peft_merged(tmp_path / "wanted", "classifier")
    folder = base(tmp_path / "mine", "classifier")
    (folder / "model.safetensors").unlink()
    shutil.copy(DATA / "classifier" / "whole.bin", folder / "pytorch_model.bin")
    with pytest.raises(ExportError, match=r"adapter_config\.json is not there: .*merge_and_unload"):
        resolved(folder)
    file = tmp_path / "whole" / "whole.bin"
    shutil.copytree(DATA / "classifier", file.parent)
    check(tensors_of(resolved(folder, "--weights", file)[0]), wanted)


def adapter_with(tmp_path, **changes):
    adapter = tmp_path / "mine"
    shutil.copytree(DATA / "classifier", adapter)
    base(adapter, "classifier")
    values = json.loads((adapter / "adapter_config.json").read_text()) | changes
    (adapter / "adapter_config.json").write_text(json.dumps(values))
    return adapter


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"peft_type": "IA3"}, "adapter of type 'IA3', no LoRA; merge it first: .*merge_and_unload"),
        ({"use_dora": True}, "has use_dora, which cannot be merged here; merge it first"),
        ({"alpha_pattern": {"(a+)+$": 3}}, "a pattern that is no module's name; merge it first"),
        ({"alpha_pattern": {"query": "x"}}, "must be numbers"),
        ({"lora_alpha": None}, "must be numbers"),
        ({"lora_alpha": float("inf")}, "must be numbers"),
    ],
)
def test_adapters_that_cannot_be_merged(tmp_path, changes, words):
    with pytest.raises(ExportError, match=words) as caught:
        resolved(adapter_with(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_an_adapter_without_its_model(tmp_path):
    adapter = tmp_path / "mine"
    shutil.copytree(DATA / "classifier", adapter)
    with pytest.raises(
        ExportError, match=r"a LoRA adapter and not the model .* \(base\); .*merge_and_unload"
    ):
        resolved(adapter)
    with pytest.raises(ExportError, match="give its folder as MODEL"):
        resolved(base(tmp_path / "other", "classifier"), "--weights", adapter)
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(ExportError, match=r"holds none of adapter_model\.safetensors"):
        resolved(adapter)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s, q: s.pop(q + "lora_B.weight"), "lacks one of its matrices A and B"),
        (lambda s, q: s.update({q + "lora_B.weight": torch.ones(24, 3)}), "do not fit .*query \\[24, 24\\]"),
        (
            lambda s, q: s.update({q + "lora_magnitude_vector": torch.ones(24)}),
            "no matrix A or B of a LoRA; merge",
        ),
        (lambda s, q: s.update({"base_model.model.x.lora_A.weight": torch.ones(1, 2)}), "the model has no x"),
        (lambda s, q: s.update({q + "lora_A.b.weight": torch.ones(2, 24)}), "has two adapters; merge"),
        (
            lambda s, q: s.update({"base_model.model.extra.weight": torch.ones(2)}),
            r"unexpected: .*extra\.weight",
        ),
    ],
)
def test_adapters_that_do_not_fit(tmp_path, change, words):
    adapter = adapter_with(tmp_path)
    state = safetensors.load_file(adapter / "adapter_model.safetensors")
    change(state, next(name for name in state if "query.lora_A" in name).removesuffix("lora_A.weight"))
    safetensors.save_file(state, adapter / "adapter_model.safetensors")
    with pytest.raises(ExportError, match=words):
        resolved(adapter)


def test_an_adapter_of_paddlenlp(tmp_path, write_checkpoint, tiny):
    (write_checkpoint(tmp_path, tiny) / "lora_config.json").write_text("{}")
    with pytest.raises(ExportError, match=r"a LoRA adapter of PaddleNLP; merge it"):
        resolved(tmp_path)
