"""The model: transformers' AlbertForMaskedLM; training chooses how many times its one layer runs."""

from pathlib import Path

from tokenizers import Tokenizer
from torch import Tensor
from transformers import AlbertConfig, AlbertForMaskedLM, PreTrainedTokenizerFast

from .vocabulary import CLS, PAD, SEP, SPECIAL

PASSES = 12
LONGEST = 128
VOCABULARY = 4096


def new_model() -> AlbertForMaskedLM:
    """The model with random weights."""
    config = AlbertConfig(
        vocab_size=VOCABULARY,
        embedding_size=128,
        hidden_size=256,
        num_hidden_layers=PASSES,
        num_attention_heads=8,
        intermediate_size=1024,
        hidden_act="gelu",
        attn_implementation="eager",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        max_position_embeddings=LONGEST,
        pad_token_id=PAD,
        bos_token_id=CLS,
        eos_token_id=SEP,
    )
    return AlbertForMaskedLM(config)


def scores(model: AlbertForMaskedLM, ids: Tensor, chosen: Tensor, passes: int) -> Tensor:
    """Scores [N, V] at the ``chosen`` positions [N] of the flattened ids [B, T], after ``passes`` passes."""
    model.config.num_hidden_layers = passes
    try:
        hidden = model.albert(ids, attention_mask=(ids != PAD).long())[0]
        found: Tensor = model.predictions(hidden.flatten(0, 1)[chosen])
        return found
    finally:
        model.config.num_hidden_layers = PASSES


def save(folder: Path, model: AlbertForMaskedLM, tokenizer: Tokenizer) -> None:
    """Write the folder that transformers and albert-export read, weights in float16."""
    halves: dict[int, Tensor] = {}  # by address, so that tied tensors are stored once
    values = {
        name: halves.setdefault(tensor.data_ptr(), tensor.half())
        for name, tensor in model.state_dict().items()
    }
    model.save_pretrained(folder, state_dict=values)
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=LONGEST, **dict(zip(names, SPECIAL, strict=True))
    )
    fast.save_pretrained(folder)
