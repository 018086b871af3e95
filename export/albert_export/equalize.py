"""Equalizes channels before int8: a channel is divided by a power of two, its next weights multiplied by it.

In int8 a whole row of activations has one scale, so a channel much larger than the others leaves few steps
for them. Where a channel is only summed on its way from one matrix to the next (from value to output in
attention), or goes through a ReLU, the model's float32 outputs stay the same to the bit. The method is from
M. Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, 2019: the weights
into a channel and the weights out of it get the same size.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from albert_runtime.artifact.config import AlbertConfig, layer_prefix

from .precision import Tensor

_LARGEST = 2.0**16


def equalized(tensors: Iterable[Tensor], config: AlbertConfig) -> Iterator[Tensor]:
    """The float32 tensors of a model by name; each pair of matrices is equalized and yielded together."""
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
    """Names of (matrix that produces the channels, matrix that consumes them)."""
    pairs = []
    for group in range(config.num_hidden_groups):
        for inner in range(config.inner_group_num):
            prefix = layer_prefix(group, inner)
            pairs.append((f"{prefix}attention.value", f"{prefix}attention.dense"))
            if config.hidden_act == "relu":
                pairs.append((f"{prefix}ffn", f"{prefix}ffn_output"))
    return pairs


def _factors(before: np.ndarray, shift: np.ndarray, after: np.ndarray) -> np.ndarray:
    """A power of two per channel, to divide before [in, channels] and shift by and multiply after by.

    Sizes are norms: the input of ``before`` comes from a LayerNorm, so the norm of a column tells the size of
    its channel. A channel that is zero on either side keeps its size. ``after`` is [channels, out].
    """
    given = np.linalg.norm(before.astype(np.float64), axis=0) + np.abs(shift)
    taken = np.linalg.norm(after.astype(np.float64), axis=1)
    usable = (given > 0) & (taken > 0)
    ratio = np.sqrt(np.divide(given, taken, out=np.ones_like(given), where=usable))
    usual = np.exp(np.log(ratio[usable]).mean()) if usable.any() else 1.0
    factors = np.where(usable, np.exp2(np.rint(np.log2(ratio / usual))), 1.0)
    return np.clip(factors, 1 / _LARGEST, _LARGEST).astype(np.float32)
