"""Channels evened out before int8: each divided by a power of two, the next weights multiplied by it.

int8 gives a whole row of activations one scale, so a channel many times as great as the others leaves those
few steps. Where a channel goes through nothing but sums on its way from one matrix to the next, the model
stays the same to the bit: from the value to the output of attention, and through a ReLU. The idea is that of
M. Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, 2019: what comes in
and what goes out of a channel get the same size.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from albert_runtime.artifact.config import AlbertConfig, layer_prefix

from .precision import Tensor

_LARGEST = 2.0**16


def equalized(tensors: Iterable[Tensor], config: AlbertConfig) -> Iterator[Tensor]:
    """The tensors of a model (name, float32), those of each pair of matrices evened out and together."""
    pairs = _pairs(config)
    partner = {f"{name}.{part}": pair for pair in pairs for name in pair for part in ("weight", "bias")}
    held: dict[str, np.ndarray] = {}
    for name, tensor in tensors:
        pair = partner.get(name)
        if pair is None or name == f"{pair[1]}.bias":
            yield name, tensor
            continue
        held[name] = tensor
        source, target = (f"{one}.weight" for one in pair)
        bias = f"{pair[0]}.bias"
        if source in held and target in held and bias in held:
            before, shift, after = held.pop(source), held.pop(bias), held.pop(target)
            factors = _factors(before, shift, after)
            yield source, before / factors
            yield bias, shift / factors
            yield target, after * factors[:, None]


def _pairs(config: AlbertConfig) -> list[tuple[str, str]]:
    """(matrix that gives the channels, matrix that takes them) by name."""
    pairs = []
    for group in range(config.num_hidden_groups):
        for inner in range(config.inner_group_num):
            prefix = layer_prefix(group, inner)
            pairs.append((f"{prefix}attention.value", f"{prefix}attention.dense"))
            if config.hidden_act == "relu":
                pairs.append((f"{prefix}ffn", f"{prefix}ffn_output"))
    return pairs


def _factors(before: np.ndarray, shift: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Powers of two by channel: before [in, channels], shift are divided, after [channels, out] multiplied.

    Sizes are norms: what reaches ``before`` comes from a LayerNorm, so its columns' norms are the sizes of
    what they give. A channel that is zero on either side keeps its size.
    """
    given = np.linalg.norm(before.astype(np.float64), axis=0) + np.abs(shift)
    taken = np.linalg.norm(after.astype(np.float64), axis=1)
    usable = (given > 0) & (taken > 0)
    ratio = np.sqrt(np.divide(given, taken, out=np.ones_like(given), where=usable))
    usual = np.exp(np.log(ratio[usable]).mean()) if usable.any() else 1.0
    factors = np.where(usable, np.exp2(np.rint(np.log2(ratio / usual))), 1.0)
    return np.clip(factors, 1 / _LARGEST, _LARGEST).astype(np.float32)
