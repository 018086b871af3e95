"""PyTorch: the model rebuilt from the artifact, compiled as a whole, its weights frozen into the code."""

import os
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from albert_runtime.artifact import Artifact
from albert_runtime.config import AlbertConfig, layer_prefix

from . import HIDDEN, POOLED, Answer, Ids, Job, padded

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_GELU = {"gelu": "none", "gelu_new": "tanh"}
_MASKED = -10000.0
# One for each of: one row or several, padding or none; and for what torch itself specializes besides.
_MOST_GRAPHS = 32


class Encoder(nn.Module):  # type: ignore[misc]  # torch is not followed
    """ALBERT in plain functions. Weights are stored once; Q, K and V are one matrix [3H, H]."""

    def __init__(self, config: AlbertConfig, tensors: dict[str, Tensor], dtype: torch.dtype) -> None:
        super().__init__()
        self.config = config
        for group in range(config.num_hidden_groups):
            for inner in range(config.inner_group_num):
                prefix = f"{layer_prefix(group, inner)}attention."
                for kind in ("weight", "bias"):
                    parts = [tensors.pop(f"{prefix}{part}.{kind}") for part in ("query", "key", "value")]
                    tensors[f"{prefix}qkv.{kind}"] = torch.cat(parts)
        self.names = {name: name.replace(".", "_") for name in tensors}
        for name, values in tensors.items():
            self.register_parameter(self.names[name], nn.Parameter(values.to(dtype), requires_grad=False))

    def forward(self, ids: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """int64 [B, S] and 0/1 [B, S] (None: nothing is masked) to float32 [B, S, H] and [B, H]."""
        config = self.config
        words = self.weight("embeddings.word_embeddings.weight")
        x = F.embedding(ids, words)
        if config.padding_idx is not None:
            x = x * (ids != config.padding_idx).to(x.dtype).unsqueeze(-1)
        x = x + self.weight("embeddings.token_type_embeddings.weight")[0]
        x = x + self.weight("embeddings.position_embeddings.weight")[: ids.shape[1]]
        x = self.norm(x, "embeddings.layer_norm")
        x = self.linear(x, "encoder.embedding_hidden_mapping_in")
        bias = None if mask is None else ((1.0 - mask.to(x.dtype)) * _MASKED)[:, None, None, :]
        for layer in range(config.num_hidden_layers):
            for inner in range(config.inner_group_num):
                x = self.layer(x, bias, layer_prefix(config.group_of_layer(layer), inner))
        pooled = torch.tanh(self.linear(x[:, 0], "pooler"))
        return x.float(), pooled.float()

    def layer(self, x: Tensor, bias: Tensor | None, prefix: str) -> Tensor:
        """[B, S, H] to [B, S, H]; bias [B, 1, 1, S] is added to the scores."""
        rows, length, hidden = x.shape
        qkv = self.linear(x, f"{prefix}attention.qkv")
        heads = qkv.view(rows, length, 3, self.config.num_attention_heads, self.config.head_size)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        context = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        context = context.transpose(1, 2).reshape(rows, length, hidden)
        attended = self.norm(
            x + self.linear(context, f"{prefix}attention.dense"), f"{prefix}attention.layer_norm"
        )
        inner = self.linear(attended, f"{prefix}ffn")
        act = self.config.hidden_act
        inner = F.relu(inner) if act == "relu" else F.gelu(inner, approximate=_GELU[act])
        outer = self.linear(inner, f"{prefix}ffn_output")
        return self.norm(outer + attended, f"{prefix}full_layer_layer_norm")

    def weight(self, name: str) -> Tensor:
        """A parameter by the manifest's name."""
        return getattr(self, self.names[name])

    def linear(self, x: Tensor, name: str) -> Tensor:
        """x W^T + b, W [out, in]."""
        return F.linear(x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"))

    def norm(self, x: Tensor, name: str) -> Tensor:
        """LayerNorm over the last axis."""
        scale, shift = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return F.layer_norm(x, x.shape[-1:], scale, shift, self.config.layer_norm_eps)


class Compiled:
    """The encoder through torch.compile, for any shapes; a kind of shape is compiled when it is first met."""

    def __init__(self, job: Job) -> None:
        # Beside what was prepared: the processes of one run share what is compiled, the next run starts anew.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(job.folder / "compiled")
        torch.set_num_threads(1 if job.streams else job.threads)
        torch._inductor.config.freezing = True
        torch._dynamo.config.recompile_limit = _MOST_GRAPHS
        artifact = Artifact.open(job.artifact)
        assert artifact.manifest is not None
        encoder = Encoder(artifact.manifest.config, _tensors(artifact), _TYPES[job.contender.precision])
        self._forward = torch.compile(encoder.eval(), dynamic=True)

    def run(self, rows: Sequence[Ids]) -> Answer:
        """See Model.run."""
        ids, mask, _ = padded(rows)
        whole = all(len(row) == ids.shape[1] for row in rows)
        with torch.no_grad():
            hidden, pooled = self._forward(torch.from_numpy(ids), None if whole else torch.from_numpy(mask))
        return {HIDDEN: hidden.numpy(), POOLED: pooled.numpy()}


build = Compiled


def _tensors(artifact: Artifact) -> dict[str, Tensor]:
    """Every tensor by name; matrices of linear layers [out, in], as torch has them."""
    assert artifact.manifest is not None
    found = {}
    raw = np.memmap(artifact.files["weights"], np.uint8, "r")
    for record in artifact.manifest.tensors:
        data = raw[
            record.offset : record.offset + record.length
        ].tobytes()  # at odd offsets: copied, not viewed
        values = torch.from_numpy(np.frombuffer(data, np.float32).reshape(record.shape).copy())
        is_linear = values.ndim == 2 and "_embeddings." not in record.name
        found[record.name] = values.T.contiguous() if is_linear else values
    return found
