"""Tiny transformers models with random weights, for the generators that export from PyTorch."""

from pathlib import Path

import answers
import numpy as np
import torch
import transformers


def config(**changes) -> transformers.AlbertConfig:
    settings = {
        **answers.SIZES,
        "hidden_act": "gelu_new",
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    settings |= {
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "classifier_dropout_prob": 0.1,
    }
    return transformers.AlbertConfig(**{**settings, **changes})


def model(name: str, config: transformers.PretrainedConfig, seed: int = 0, **options) -> torch.nn.Module:
    """transformers' class `name`, ready to export, with no weight left at 0 or 1."""
    made = getattr(transformers, name)(config, **options).eval()
    randomize(made, seed)
    return made


def randomize(made: torch.nn.Module, seed: int = 0) -> None:
    """Normal weights and biases of deviation 0.2, LayerNorm's weights around 1. Tied weights stay tied."""
    generator = torch.Generator().manual_seed(seed)
    norms = {id(m.weight) for m in made.modules() if isinstance(m, torch.nn.LayerNorm)}
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(float(id(parameter) in norms), 0.2, generator=generator)


def save_source(folder: Path, made: torch.nn.Module) -> None:
    state = {name: value.detach().numpy() for name, value in made.state_dict().items()}
    answers.save_source(folder, made.config.to_dict(), {k: np.asarray(v) for k, v in state.items()})
