"""A tiny model and its tensors, and the command run in this process."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from albert_export.cli import main
from albert_runtime.artifact.config import AlbertConfig

TINY = AlbertConfig(
    vocab_size=60,
    embedding_size=8,
    hidden_size=12,
    num_hidden_layers=2,
    num_hidden_groups=1,
    inner_group_num=1,
    num_attention_heads=2,
    intermediate_size=20,
    hidden_act="gelu_new",
    max_position_embeddings=40,
    type_vocab_size=2,
    layer_norm_eps=1e-12,
    pad_token_id=0,
    padding_idx=0,
    add_pooling_layer=True,
    initializer_range=0.02,
)


@dataclass
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def tiny() -> AlbertConfig:
    """A model of a few thousand parameters."""
    return TINY


@pytest.fixture
def tiny_tensors() -> dict[str, np.ndarray]:
    """Random values for every tensor of ``tiny``, biases and LayerNorms included."""
    generator = np.random.default_rng(5)
    return {
        name: generator.normal(1.0 if name.endswith("layer_norm.weight") else 0.0, 0.2, shape).astype(
            np.float32
        )
        for name, shape in TINY.tensor_shapes().items()
    }


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """run(*arguments) -> Outcome of `albert-export` with these arguments."""

    def run_command(*arguments: object) -> Outcome:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:  # argparse's own errors, --help, --version
            code = int(end.code or 0)
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        return Outcome(code, captured.out, captured.err)

    return run_command
