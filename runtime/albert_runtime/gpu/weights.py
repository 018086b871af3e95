"""An artifact's weights on the GPU: each tensor is read once, converted, and laid out for the kernels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..artifact.config import AlbertConfig, layer_prefix
from ..artifact.manifest import Manifest
from ..artifact.tasks import Head
from ..artifact.tensor_table import SCALE, scaled_by_row
from .kernels.linear import Linear
from .numbers import Numbers

_TYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int8": torch.int8,
}
_GREATEST = 127.0
_LEAST_PEAK = 1e-30  # 127 / peak might overflow below


@dataclass(frozen=True, slots=True)
class Norm:
    """Scale and shift of a LayerNorm, float32."""

    scale: torch.Tensor
    shift: torch.Tensor


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One transformer layer."""

    qkv: Linear  # Q, K and V one after another
    dense: Linear
    attention_norm: Norm
    ffn: Linear
    ffn_output: Linear
    full_norm: Norm


@dataclass(frozen=True, slots=True)
class VocabularyHead:
    """What scores the vocabulary."""

    dense: Linear
    norm: Norm
    decoder: Linear


@dataclass(frozen=True, slots=True)
class Weights:
    """All of a model. ``groups[g]`` are the layers that group g applies one after another."""

    tables: tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # word, token type, position
    embedding_norm: Norm
    mapping_in: Linear
    groups: tuple[tuple[LayerWeights, ...], ...]
    pooler: Linear | None
    classifier: Linear | None
    vocabulary: VocabularyHead | None
    bytes: int

    @classmethod
    def load(cls, path: Path, manifest: Manifest, numbers: Numbers, device: torch.device) -> "Weights":
        """Read the weight file; whoever read the manifest has checked its tensor table."""
        return _Loader(path, manifest, numbers, device).weights(manifest.config, manifest.head)


class _Loader:
    def __init__(self, path: Path, manifest: Manifest, numbers: Numbers, device: torch.device) -> None:
        self._file = np.memmap(path, np.uint8, "r")
        self._tensors = {tensor.name: tensor for tensor in manifest.tensors}
        self._numbers = numbers
        self._device = device
        self._bytes = 0

    def weights(self, config: AlbertConfig, head: Head) -> Weights:
        embeddings = "embeddings."
        words, types, positions = (
            self._placed(self._floats(f"{embeddings}{name}_embeddings.weight"))
            for name in ("word", "token_type", "position")
        )
        groups = tuple(
            tuple(self._layer(layer_prefix(group, index)) for index in range(config.inner_group_num))
            for group in range(config.num_hidden_groups)
        )
        return Weights(
            tables=(words, types, positions),
            embedding_norm=self._norm(f"{embeddings}layer_norm"),
            mapping_in=self._outside("encoder.embedding_hidden_mapping_in"),
            groups=groups,
            pooler=self._outside("pooler") if config.add_pooling_layer else None,
            classifier=self._outside(head.classifier) if head.classifier else None,
            vocabulary=self._vocabulary(head, words) if head.reads_vocabulary else None,
            bytes=self._bytes,
        )

    def _layer(self, prefix: str) -> LayerWeights:
        attention = f"{prefix}attention."
        return LayerWeights(
            qkv=self._inside(*(f"{attention}{name}" for name in ("query", "key", "value"))),
            dense=self._inside(f"{attention}dense"),
            attention_norm=self._norm(f"{attention}layer_norm"),
            ffn=self._inside(f"{prefix}ffn"),
            ffn_output=self._inside(f"{prefix}ffn_output"),
            full_norm=self._norm(f"{prefix}full_layer_layer_norm"),
        )

    def _vocabulary(self, head: Head, words: torch.Tensor) -> VocabularyHead:
        name = "predictions.decoder.weight"
        decoder = words if head.tied_decoder else self._placed(self._floats(name))
        bias = self._placed(self._stored("predictions.bias").float())
        return VocabularyHead(
            dense=self._outside("predictions.dense"),
            norm=self._norm("predictions.layer_norm"),
            decoder=Linear(decoder, bias, tf32=self._numbers.tf32),
        )

    def _norm(self, name: str) -> Norm:
        scale, shift = (self._placed(self._stored(f"{name}.{part}").float()) for part in ("weight", "bias"))
        return Norm(scale, shift)

    def _outside(self, name: str) -> Linear:
        """A linear map outside the layers."""
        weight = self._placed(self._floats(f"{name}.weight").T)
        bias = self._placed(self._stored(f"{name}.bias").float())
        return Linear(weight, bias, tf32=self._numbers.tf32)

    def _inside(self, *names: str) -> Linear:
        """Linear maps of a layer side by side."""
        bias = self._placed(torch.cat([self._stored(f"{name}.bias").float() for name in names]))
        if not self._numbers.quantized:
            weight = torch.cat([self._floats(f"{name}.weight").T for name in names])
            return Linear(self._placed(weight), bias, tf32=self._numbers.tf32)
        parts = [self._integers(f"{name}.weight") for name in names]
        weight = self._placed(torch.cat([integers.T for integers, _ in parts]))
        return Linear(weight, bias, self._placed(torch.cat([scale for _, scale in parts])))

    def _integers(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """A matrix [K, N] as int8 and the scale of each column: as stored, or as the CPU engine rounds it."""
        matrix = self._stored(name)
        if matrix.dtype == torch.int8:
            return matrix, self._stored(f"{name}{SCALE}")
        matrix = matrix.float()
        peak = matrix.abs().amax(0)
        usable = peak >= _LEAST_PEAK
        factor = torch.where(usable, _GREATEST / torch.where(usable, peak, 1.0), 0.0)
        # torch.round takes ties to even, as the engine does (csrc/engine/packed_matrix.cc)
        integers = torch.round(matrix * factor).to(torch.int8)
        return integers, torch.where(usable, peak / _GREATEST, 0.0)

    def _floats(self, name: str) -> torch.Tensor:
        """A matrix in the type of activations."""
        matrix = self._stored(name)
        if matrix.dtype == torch.int8:
            scale = self._stored(f"{name}{SCALE}")
            matrix = matrix.float() * (scale[:, None] if scaled_by_row(name) else scale)
        return matrix.to(self._numbers.activations)

    def _stored(self, name: str) -> torch.Tensor:
        tensor = self._tensors[name]
        raw = np.array(
            self._file[tensor.offset : tensor.offset + tensor.length]
        )  # tensors lie at odd offsets
        return torch.from_numpy(raw).view(_TYPES[tensor.dtype]).reshape(tensor.shape)

    def _placed(self, tensor: torch.Tensor) -> torch.Tensor:
        self._bytes += tensor.nbytes
        return tensor.contiguous().to(self._device)
