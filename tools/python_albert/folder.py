"""The model as a Hugging Face folder: names and [out, in] matrices of AlbertForMaskedLM, in float16."""

import json
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from albert_runtime.config import AlbertConfig

from .network import Float, tensor_shapes
from .vocabulary import CLS, PAD, SEP, SPECIAL


def half(values: dict[str, Float]) -> dict[str, Float]:
    """The values that float16 keeps, as float32."""
    return {name: value.astype(np.float16).astype(np.float32) for name, value in values.items()}


def hugging_face_name(name: str) -> str:
    """albert.embeddings.LayerNorm.weight for embeddings.layer_norm.weight, and so on."""
    name = re.sub(r"(?<!full_layer_)layer_norm", "LayerNorm", name)
    return name if name.startswith("predictions.") else f"albert.{name}"


def save(folder: Path, config: AlbertConfig, values: dict[str, Float], tokenizer: Tokenizer) -> None:
    """Write config.json, model.safetensors, tokenizer.json and tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, NDArray[np.float16]] = {}
    for name, value in values.items():
        stored = value.T if _is_matrix(name, value) else value
        tensors[hugging_face_name(name)] = np.ascontiguousarray(stored, np.float16)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    settings = {
        "architectures": ["AlbertForMaskedLM"],
        "model_type": "albert",
        "attention_probs_dropout_prob": 0.0,
        "hidden_dropout_prob": 0.0,
        "classifier_dropout_prob": 0.1,
        **{k: v for k, v in config.to_dict().items() if k not in ("padding_idx", "add_pooling_layer")},
        "bos_token_id": CLS,
        "eos_token_id": SEP,
        "pad_token_id": PAD,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
    }
    _write(folder / "config.json", settings)
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    special = dict(zip(names, SPECIAL, strict=True))
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": config.max_position_embeddings,
            **special,
            "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        },
    )
    tokenizer.save(str(folder / "tokenizer.json"))


def load(folder: Path, config: AlbertConfig) -> dict[str, Float]:
    """The values that ``save`` wrote, as float32."""
    stored = load_file(folder / "model.safetensors")
    values = {name: stored[hugging_face_name(name)].astype(np.float32) for name in tensor_shapes(config)}
    return {
        name: np.ascontiguousarray(value.T) if _is_matrix(name, value) else value
        for name, value in values.items()
    }


def _is_matrix(name: str, value: NDArray[np.floating]) -> bool:
    return name.endswith("weight") and value.ndim == 2 and "embeddings." not in name


def _write(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
