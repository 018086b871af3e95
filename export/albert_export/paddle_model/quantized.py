"""int8 in paddle.nn: layers with int8 matrices and scales, and the ranges of their inputs.

Paddle computes in float32 with the dequantized matrices. Import this module only
where paddle may be imported.
"""

# paddle has no types that mypy could follow, so its Layer is Any.
# mypy: disable-error-code="misc, no-any-return"

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

from albert_runtime.artifact.config import LAYERS
from albert_runtime.artifact.tasks import INPUTS
from albert_runtime.artifact.tensor_table import SCALE, scaled_by_row

from .model import Table


class _Quantized(nn.Layer):
    """A layer whose matrix is int8 with scales, under the names of the manifest."""

    def __init__(self, parameter: Tensor) -> None:
        super().__init__()
        self.by_row = scaled_by_row(parameter.name)
        rows, columns = parameter.shape
        self._add("integers", parameter.name, [rows, columns], "int8")
        self._add("scale", f"{parameter.name}{SCALE}", [rows if self.by_row else columns], "float32")

    def _add(self, attribute: str, name: str, shape: list[int], dtype: str) -> None:
        buffer = paddle.zeros(shape, dtype)
        buffer.name = name
        self.register_buffer(attribute, buffer)

    @property
    def weight(self) -> Tensor:
        """The dequantized matrix, float32."""
        return self.integers.astype("float32") * (self.scale.unsqueeze(-1) if self.by_row else self.scale)


class QuantizedLinear(_Quantized):
    """x W + b in float32, W [inputs, outputs]."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.weight)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] to [..., outputs]."""
        return F.linear(x, self.weight, self.bias)


class QuantizedTable(_Quantized):
    """A lookup table [rows, columns]."""

    def __init__(self, table: Table) -> None:
        super().__init__(table.weight)

    def forward(self, ids: Tensor) -> Tensor:
        """Rows for ids [B, S]: float32 [B, S, columns]."""
        return F.embedding(ids, self.integers).astype("float32") * F.embedding(ids, self.scale.unsqueeze(-1))


def quantize_layers(model: nn.Layer, dtypes: Mapping[str, str]) -> None:
    """Replace every layer whose matrix is int8 according to ``dtypes``; the values are set later."""
    for layer in list(model.sublayers(include_self=True)):
        for name, child in list(layer.named_children()):
            if isinstance(child, nn.Linear | Table) and dtypes[child.weight.name] == "int8":
                setattr(
                    layer,
                    name,
                    QuantizedLinear(child) if isinstance(child, nn.Linear) else QuantizedTable(child),
                )


def find_ranges(model: nn.Layer, batches: Iterable[Mapping[str, np.ndarray]]) -> dict[str, list[float]]:
    """The greatest absolute input of every matrix of the layers: by name, a list with one value per use.

    A matrix that all depths share has one value per depth. ``batches``: int64 [B, T] arrays by input name;
    tokens whose attention_mask is 0 are ignored.
    """
    greatest: dict[str, list[float]] = {}
    for batch in batches:
        inputs = {name: paddle.to_tensor(batch[name]) for name in INPUTS}
        with _watched(model, inputs["attention_mask"]) as seen, paddle.no_grad():
            model(*inputs.values())
        for name, found in seen.items():
            before = greatest.setdefault(name, found)
            greatest[name] = [max(pair) for pair in zip(before, found, strict=True)]
    return greatest


@contextmanager
def _watched(model: nn.Layer, mask: Tensor) -> Iterator[dict[str, list[float]]]:
    """Collects the greatest absolute inputs during one run, of tokens where the mask [B, T] is 1."""
    seen: dict[str, list[float]] = {}
    kept = mask.astype(model.wide)

    def note(layer: nn.Linear, inputs: tuple[Tensor, ...]) -> None:
        greatest = inputs[0].abs().max(axis=-1) * kept  # [B, T]
        seen.setdefault(layer.weight.name, []).append(float(greatest.max()))

    hooks = [
        layer.register_forward_pre_hook(note)
        for layer in model.sublayers()
        if isinstance(layer, nn.Linear) and layer.weight.name.startswith(LAYERS)
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
