"""LoRA adapters of the library peft, merged into the weights that they were trained on.

An adapter's matrices A and B stand for the change B A x scaling of one weight. Other tensors of its file
(modules_to_save, biases) replace the model's. What cannot be merged exactly so is refused with peft's own
remedy, merge_and_unload.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from albert_runtime.artifact import tasks

from ..errors import ExportError
from .stored_tensor import FLOATS, StoredTensor, StoredTensors, shown

CONFIG_NAME = "adapter_config.json"
ADAPTER_NAMES = ("adapter_model.safetensors", "adapter_model.bin")
# adapter_config.json's task_type -> the task of the model beneath.
TASKS = {
    "SEQ_CLS": tasks.SEQUENCE_CLASSIFICATION,
    "TOKEN_CLS": tasks.TOKEN_CLASSIFICATION,
    "QUESTION_ANS": tasks.QUESTION_ANSWERING,
    "FEATURE_EXTRACTION": tasks.MODEL,
}
REMEDY = "merge it first: peft_model.merge_and_unload().save_pretrained(FOLDER)"

_MAX_BYTES = 1 << 20
_PREFIX = "base_model.model."
_FACTOR = re.compile(
    r"(?P<module>.+)\.lora_(?P<kind>embedding_)?(?P<side>[AB])(\.(?P<adapter>\w+))??(\.weight)?"
)
# Of adapters that are more than B A x scaling, or that apply to some inputs only.
_UNSUPPORTED = (
    "use_dora",
    "use_qalora",
    "lora_bias",
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
    "alora_invocation_tokens",
    "arrow_config",
    "use_bdlora",
    "kasa_config",
    "monteclora_config",
    "velora_config",
)


@dataclass(frozen=True)
class Adapter:
    """What adapter_config.json says."""

    path: Path
    base: str | None
    task: str | None
    alpha: float
    alpha_pattern: Mapping[str, float]
    root_scaling: bool

    def scaling(self, module: str, rank: int) -> float:
        """The factor of B A for a module, by its name without wrappers."""
        alpha = next(
            (value for key, value in self.alpha_pattern.items() if f".{module}".endswith(f".{key}")),
            self.alpha,
        )
        return alpha / (math.sqrt(rank) if self.root_scaling else rank)


def read_adapter(path: Path) -> Adapter:
    """Read adapter_config.json; ExportError, with the remedy, for an adapter that cannot be merged here."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("it is far too large")
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ExportError(
            f"{path} is not there: it holds the scaling of the adapter's matrices; {REMEDY}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{path} is not readable as JSON ({str(error)[:80]})") from None
    if not isinstance(values, dict):
        raise ExportError(f"{path} holds no JSON object")
    if values.get("peft_type") != "LORA":
        raise ExportError(
            f"{path} is of an adapter of type {values.get('peft_type')!r:.40}, no LoRA; {REMEDY}"
        )
    for name in _UNSUPPORTED:
        if values.get(name):
            raise ExportError(f"{path} has {name}, which cannot be merged here; {REMEDY}")
    patterns = values.get("alpha_pattern") or {}
    numbers = [values.get("lora_alpha", 8), *(patterns.values() if isinstance(patterns, dict) else [None])]
    if not all(type(number) in (int, float) and math.isfinite(number) for number in numbers):
        raise ExportError(f"{path}: lora_alpha and alpha_pattern must be numbers, by module")
    # peft takes the keys for regular expressions; names are what they are in practice.
    if not all(re.fullmatch(r"[\w.]+", key) for key in patterns):
        raise ExportError(f"{path}: alpha_pattern has a pattern that is no module's name; {REMEDY}")
    base, kind = values.get("base_model_name_or_path"), values.get("task_type")
    return Adapter(
        path,
        base if isinstance(base, str) else None,
        TASKS.get(kind) if isinstance(kind, str) else None,
        float(numbers[0]),
        {key: float(value) for key, value in patterns.items()},
        bool(values.get("use_rslora")),
    )


def is_adapter_file(path: Path) -> bool:
    """Whether a weight file is an adapter's, by its name."""
    return path.name in ADAPTER_NAMES


def merge_whole(stored: StoredTensors, folder: Path) -> StoredTensors:
    """The tensors of a PeftModel saved whole, its adapter merged; ``stored`` itself if it is of none.

    ``folder`` holds the adapter_config.json, without which nobody knows the scaling.
    """
    if not any(name.startswith(_PREFIX) or ".base_layer." in name or ".lora_" in name for name in stored):
        return stored
    plain = plain_names(stored)
    factors = {name: value for name, value in plain.items() if ".lora_" in name}
    base = {name: value for name, value in plain.items() if name not in factors}
    return merged(base, factors, read_adapter(folder / CONFIG_NAME)) if factors else base


def plain_names(stored: StoredTensors) -> StoredTensors:
    """A PeftModel's tensors under the names of the model beneath; its adapter's matrices keep theirs.

    ExportError for two different tensors of one name, as of two adapters.
    """
    found: StoredTensors = {}
    for raw_name, value in stored.items():
        name = raw_name.removeprefix(_PREFIX).replace(".base_layer.", ".")
        if ".original_module." in f".{name}":
            continue  # what modules_to_save replaces
        name = re.sub(r"(^|\.)modules_to_save\.(weight|bias)$", r"\1\2", name)
        name = re.sub(r"(^|\.)modules_to_save\.\w+\.", r"\1", name)
        other = found.setdefault(name, value)  # peft saves a classifier's bias under two names
        if other is not value and not _equal(other, value):
            raise ExportError(f"{shown(raw_name)} is there twice, as of two adapters; {REMEDY}")
    return found


def _equal(one: object, other: object) -> bool:
    return (
        isinstance(one, StoredTensor)
        and isinstance(other, StoredTensor)
        and np.array_equal(one.float32(), other.float32())
    )


def merged(base: StoredTensors, adapter: StoredTensors, config: Adapter) -> StoredTensors:
    """The tensors of ``base`` with an adapter's in or on them, unread; ExportError for what does not fit."""
    names = {name.removeprefix("albert."): name for name in base}
    found = dict(base)
    factors: dict[tuple[str, bool], dict[str, StoredTensor]] = {}
    for name, value in adapter.items():
        match = _FACTOR.fullmatch(name)
        if not isinstance(value, StoredTensor) or (match is None and "lora_" in name):
            raise ExportError(f"{config.path.parent}: {shown(name)} is no matrix A or B of a LoRA; {REMEDY}")
        if match is None:
            found[names.get(name.removeprefix("albert."), name)] = value
            continue
        pair = factors.setdefault((match["module"], match["kind"] is not None), {})
        if match["side"] in pair:
            raise ExportError(f"{config.path.parent}: {shown(match['module'])} has two adapters; {REMEDY}")
        pair[match["side"]] = value
    for (module, embedding), pair in factors.items():
        target = names.get(f"{module.removeprefix('albert.')}.weight")
        weight = None if target is None else found[target]
        if target is None or not isinstance(weight, StoredTensor):
            raise ExportError(f"{config.path.parent}: the model has no {shown(module)} for the adapter")
        if pair.keys() != {"A", "B"}:
            raise ExportError(f"{config.path.parent}: {shown(module)} lacks one of its matrices A and B")
        found[target] = _changed(weight, pair["A"], pair["B"], module, config, embedding=embedding)
    return found


def _changed(
    weight: StoredTensor, a: StoredTensor, b: StoredTensor, module: str, config: Adapter, *, embedding: bool
) -> StoredTensor:
    """The weight [out, in] plus B [out, r] A [r, in] x scaling; an embedding plus its transpose."""
    shapes_fit = len(a.shape) == len(b.shape) == 2 and a.shape[0] == b.shape[1] > 0
    change = (b.shape[0], a.shape[1]) if shapes_fit else ()
    if (change[::-1] if embedding else change) != weight.shape or not {a.dtype, b.dtype} <= set(FLOATS):
        raise ExportError(
            f"{config.path.parent}: the adapter's matrices {list(a.shape)} and {list(b.shape)} do not fit "
            f"{shown(module)} {list(weight.shape)}"
        )
    scaling = np.float32(config.scaling(module, a.shape[0]))

    def raw() -> np.ndarray:
        delta = b.float32() @ a.float32() * scaling
        values: np.ndarray = weight.float32() + (delta.T if embedding else delta)
        return values

    return StoredTensor(weight.path, weight.name, weight.shape, "float32", raw)
