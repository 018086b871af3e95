"""TensorFlow's names of a LayerNorm's tensors, gamma and beta, which old Hugging Face checkpoints keep."""

import pytest

from albert_export.errors import ExportError
from albert_runtime.artifact import tasks

pytest.importorskip("transformers")

from .test_huggingface import check, make, read, torch, transformers

SPELLINGS = {"weight": "gamma", "bias": "beta"}


def old(name: str, norms: tuple[str, ...]) -> str:
    module, _, kind = name.rpartition(".")
    return f"{module}.{SPELLINGS[kind]}" if module.endswith(norms) else name


def written(model):
    """The tensors as a file holds them: the tied decoder is not among them."""
    state = model.state_dict()
    return {name: state[name].clone() for name in state if not name.startswith("predictions.decoder.")}


def save(folder, state, safe):
    from safetensors.torch import save_file

    if safe:
        save_file(state, folder / "model.safetensors", {"format": "pt"})
    else:
        torch.save(state, folder / "pytorch_model.bin")


# transformers reads them in modules called LayerNorm; releases before 4.48 rewrote the words in any name.
@pytest.mark.parametrize("norms", [("LayerNorm",), ("LayerNorm", "layer_norm")], ids=["today", "before"])
@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_gamma_and_beta(tmp_path, norms, safe):
    model = make(tasks.MASKED_LM)
    model.save_pretrained(tmp_path, safe_serialization=safe)
    state = {old(name, norms): value for name, value in written(model).items()}
    # Of the embeddings, the attention and the head; and of the layer's end.
    assert sum(name.endswith((".gamma", ".beta")) for name in state) == (6 if len(norms) == 1 else 8)
    save(tmp_path, state, safe)
    check(tmp_path, model, tasks.MASKED_LM)
    if len(norms) == 1:
        loaded = transformers.AlbertForMaskedLM.from_pretrained(tmp_path).eval()
        check(tmp_path, loaded, tasks.MASKED_LM)


@pytest.mark.parametrize("kind", SPELLINGS)
def test_both_spellings_of_one_tensor(tmp_path, kind):
    model = make(tasks.MODEL)
    model.save_pretrained(tmp_path)
    state = written(model)
    name = f"embeddings.LayerNorm.{kind}"
    save(tmp_path, {**state, old(name, ("LayerNorm",)): state[name] + 1}, True)
    with pytest.raises(ExportError, match=rf"unexpected: embeddings\.LayerNorm\.({kind}|{SPELLINGS[kind]})$"):
        read(tmp_path)


def test_the_words_mean_nothing_elsewhere(tmp_path):
    model = make(tasks.MODEL)
    model.save_pretrained(tmp_path)
    state = written(model)
    state["pooler.beta"] = state.pop("pooler.bias")
    save(tmp_path, state, True)
    with pytest.raises(ExportError, match=r"missing: pooler\.bias$"):
        read(tmp_path)
